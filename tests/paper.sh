#!/bin/sh
# examples/paper.sh in its quick form: it is stopped, killed and started again, and no run is done twice;
# the numbers of the report are those of the tables.
# usage: tests/paper.sh quick|full BUILD
set -u
cd "$(dirname "$0")/.." || exit 1
mode=$1 build=$2
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0

check() { # NAME COMMAND...
    name=$1
    shift
    if "$@" >"$t/log" 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $name"; sed 's/^/     /' "$t/log" | head -n 8; fi
}
says() { grep -q -e "$1" "$2" || { echo "expected: $1"; cat "$2"; return 1; }; }
no() { ! "$@"; }

export PAPER_QUICK=1 BUILD="$build" STATE="$t/state" RESULTS="$t/results" THREADS=1 SEEDS="1 2"

# Two runs a twentieth as fast as this machine, on which they may take a quarter of a second: a signal shall
# meet them at work.
mkdir "$t/slow" && ln -s "$(cd "$build" && pwd)/bits" "$t/slow"
cat >"$t/slow/cifar" <<END
#!/bin/sh
case "\$*" in
*"--run c100-late-1 "* | *"--run c100-swa-1 "*)
    (trap 'kill -CONT \$\$; exit' HUP INT TERM
    for i in \$(seq 200); do
        kill -STOP \$\$ || break
        sleep 0.1
        kill -CONT \$\$
        sleep 0.003
    done) 2>/dev/null & ;;
esac
exec "$(cd "$build" && pwd)/cifar" "\$@"
END
chmod +x "$t/slow/cifar"

# Waits until the grid, process PID, has written a checkpoint of RUN and trains on.
under_way() { # PID RUN
    until [ -f "$STATE/$2.ck" ]; do
        kill -0 "$1" || return 1
        sleep 0.1
    done
}

# A signal amid a training: it is kept, and the rows so far stand.
BUILD="$t/slow" sh examples/paper.sh main100 >"$t/first" 2>&1 &
check "a run is under way" under_way $! c100-late-1
kill -TERM $!
wait $!
code=$?
cp "$RESULTS/grid.csv" "$t/grid.first"
check "stopped by a signal: code 143" [ $code = 143 ]
check "stopped: it says so" says "stopped; the same command goes on" "$t/first"
check "stopped: the trunk is done" says "^c100-trunk3-1," "$t/grid.first"
check "stopped: the run under way is not" no says "^c100-late-1," "$t/grid.first"
check "stopped: list" sh -c "sh examples/paper.sh --list main100 >$t/list"
check "list: done" says "c100-sgd-1 .*done, commit" "$t/list"
check "list: under way" says "c100-late-1 .*under way, epoch" "$t/list"
check "list: open" says "c100-late-2 .*open" "$t/list"

# Killed, which leaves a program without its shell; this one is waited for.
BUILD="$t/slow" sh examples/paper.sh main100 >"$t/second" 2>&1 &
check "the next run is under way" under_way $! c100-swa-1
kill -KILL $!
wait $! 2>/dev/null

AFTER="echo \$RUN >>$t/after" sh examples/paper.sh main100 >"$t/third" 2>&1
code=$?
check "to the end" [ $code = 0 ]
grep -q "c100-late-1: goes on" "$t/second" && resumed=1 || resumed=
check "the stopped run goes on" [ -n "$resumed" ]
check "the killed run goes on" says "c100-swa-1: goes on" "$t/third"
check "nothing is lost of what was done" sh -c "head -n $(wc -l <"$t/grid.first") $RESULTS/grid.csv | cmp - $t/grid.first"
no_twins() { [ -z "$(cut -d, -f1 "$1" | sort | uniq -d)" ]; }
check "no run twice in grid.csv" no_twins "$RESULTS/grid.csv"
check "no row twice in results.csv" sh -c "[ -z \"\$(sort $RESULTS/results.csv | uniq -d)\" ]"
check "all runs are there" [ "$(wc -l <"$RESULTS/grid.csv")" = 21 ]
check "AFTER is called for each" sh -c "tail -n \$(wc -l <$t/after) $RESULTS/grid.csv | cut -d, -f1 | cmp - $t/after"
check "the hash of the code" sh -c "grep -c \",\$($build/bits --small --filter plain | sed -n 's/^bits plain=//p'),\" $RESULTS/grid.csv | grep -qx 20"

cp "$RESULTS/grid.csv" "$t/grid.whole"
sh examples/paper.sh main100 >"$t/again" 2>&1
check "again: nothing begins" no says "begins" "$t/again"
check "again: the same table" cmp "$RESULTS/grid.csv" "$t/grid.whole"

# The command in the table gives the numbers in the table, of the run that was stopped too.
command=$(sed -n 's/^c100-late-1,.*,"\(.*\)"$/\1/p' "$RESULTS/grid.csv" |
    sed "s|build/cifar|$build/cifar|; s|data/cifar100|$STATE/data|; s|build/paper|$STATE|")
check "the command in the table" $command --results "$t/direct.csv" --run c100-late-1
tail -n +2 "$t/direct.csv" >"$t/direct.tail"
grep "^c100-late-1," "$RESULTS/results.csv" >"$t/grid.tail"
check "its numbers are those of the stopped run" cmp "$t/direct.tail" "$t/grid.tail"

export SEEDS=1
more=text
[ "$mode" = full ] && more="sweeps text main10 text500"
for program in "quadratic quadratic" "measure oodfew ood ood10"; do
    if [ ! -x "$build/${program%% *}" ]; then skipped=$((skipped + 1)); echo "SKIP ${program#* }: no $build/${program%% *}"
    elif [ "$mode" = full ] || [ "$program" = "quadratic quadratic" ]; then more="$more ${program#* }"; fi
done
# Two at the same time share the runs.
sh examples/paper.sh $more >"$t/lane" 2>&1 &
check "the other groups" sh examples/paper.sh $more
wait $!
code=$?
check "the other lane" [ $code = 0 ]
check "the lanes: each run once" no_twins "$RESULTS/grid.csv"
if [ "$mode" = full ] && [ -x "$build/measure" ]; then
    check "the deep ensemble's foreign images" env SEEDS="1 2" sh examples/paper.sh ood
    check "the members of the sweep" says "^oodfew-late-1,member3,accuracy,test,," "$RESULTS/measures.csv"
    check "its rows" says "^ood-deep,ensemble,auroc,noise,," "$RESULTS/measures.csv"
fi
for file in text results; do check "the lanes: $file.csv" sh -c "[ -z \"\$(sort $RESULTS/$file.csv | uniq -d)\" ]"; done

# A state that was trained by hand, in a grid of its own.
mkdir "$t/own" && cp -r "$STATE/data" "$t/own"
own="env STATE=$t/own RESULTS=$t/own.results sh examples/paper.sh"
check "take" $own --take c100-trunk3-1 "$STATE/c100-trunk3-1.ck" "$STATE/c100-trunk3-1.course.csv"
check "take: its row" says "^c100-trunk3-1,to T0 = 3," "$t/own.results/grid.csv"
check "take: its course" says "^c100-trunk3-1,3," "$t/own.results/courses.csv"
check "take: twice" no $own --take c100-trunk3-1 "$STATE/c100-trunk3-1.ck"
check "take: another net" no $own --take c100-trunk3-9 "$STATE/c100-trunk3-1.ck"
check "take: no model" no env SEEDS=2 $own --take c100-trunk3-2 README.md
check "take: what was refused is not there" sh -c "! ls $t/own/c100-trunk3-2.ck $t/own/c100-trunk3-2.seconds"
check "an unknown group" no sh examples/paper.sh nonsense
at_once() { # WORDS COMMAND...: code 2 and one line, before any run
    words=$1
    shift
    "$@" >"$t/once" 2>&1
    [ $? = 2 ] && [ "$(wc -l <"$t/once")" = 1 ] && says "$words" "$t/once"
}
check "results that cannot be written" at_once "RESULTS /dev/null/results: expected a directory" \
    env RESULTS=/dev/null/results sh examples/paper.sh quadratic
check "no data" at_once "DATA100 '/nonexistent': no such file (run c100-" \
    env STATE="$t/own" RESULTS="$t/own.results" DATA100=/nonexistent sh examples/paper.sh main100
check "seeds that are none" at_once "SEEDS '1 a': expected" env SEEDS="1 a" sh examples/paper.sh --list
check "help" sh -c "sh examples/paper.sh --help | grep -q '^  SEEDS '"

# Code of other arithmetic: its rows are named, and nothing is built upon them.
mkdir "$t/other"
printf '#!/bin/sh\necho bits plain=0123456789abcdef\n' >"$t/other/bits"
chmod +x "$t/other/bits"
check "other bits: list" sh -c "BUILD=$t/other sh examples/paper.sh --list >$t/list"
check "other bits: it says so" says "c100-sgd-1 .*with other bits" "$t/list"
grep -v "^c100-late-1," "$RESULTS/grid.csv" >"$t/own.results/grid.csv"
BUILD="$t/other" RESULTS="$t/own.results" sh examples/paper.sh main100 >"$t/other.out" 2>&1
check "other bits: not built upon" says "c100-late-1: c100-trunk3-1 was made with bits" "$t/other.out"

if ! python3 -c '' 2>/dev/null; then
    echo "skipped: the report needs python3"
    echo "$passed passed, $failed failed, 1 skipped"
    exit $((failed > 0))
fi

check "report" sh examples/paper.sh --report
report=$RESULTS/report.html
for id in cifar100 few curves sweep-k sweep-start sweep-sigma sweep-gamma sweep-wd reliability corruptions ood \
    flatness quadratic text cifar10; do
    check "report: section $id" says "<section id=\"$id\">" "$report"
done
check "report: needs nothing else" no grep -E 'https?:|src=|@import|url\(' "$report"
check "report: says that it is the quick form" says "Its numbers mean nothing" "$report"
check "report: no other bits" no says "other arithmetic" "$report"
if [ "$mode" = full ]; then
    check "report: nothing is missing" no says "No data yet" "$report"
    check "report: few images" says 'data-cell="oodfew/late/averaged/corrupted">[0-9]' "$report"
    check "report: the deep ensemble" says 'data-cell="ood/deep/ensemble/auroc/noise">0' "$report"
else
    check "report: missing runs" says 'data-cell="c10/sgd/single" colspan="5">not run' "$report"
    for id in sweep-k reliability ood flatness cifar10; do
        check "report: section $id is missing" sh -c "sed -n '/<section id=\"$id\"/,/<.section>/p' $report | grep -q 'No data yet'"
    done
fi
python3 examples/paper_report.py --results "$RESULTS" --bits 0123456789abcdef --out "$t/other.html"
check "report: other bits" says "were made by code of other arithmetic" "$t/other.html"

# The numbers once more, from the tables and by another way.
cat >"$t/recompute.py" <<'END'
import csv, os, re, statistics, sys
page = open(sys.argv[1] + "/report.html", encoding="utf-8").read()
shown = dict(re.findall(r'data-cell="([^"]*)"[^>]*>([^<]*)<', page))
read = lambda name: list(csv.DictReader(open(f"{sys.argv[1]}/{name}.csv")))
def pick(table, run, model, column):
    return [float(r[column]) for s in "12" for r in read(table) if (r["run"], r["model"]) == (f"{run}-{s}", model)]
def text(values, digits, error=False, sign=""):
    out = format(statistics.mean(values), f"{sign}.{digits}f").replace("-", "\u2212")
    if len(values) > 1:
        sd = statistics.stdev(values)
        out += f" \u00b1 {sd / len(values) ** 0.5 if error else sd:.{digits}f}"
    return out
wrong = count = 0
def same(key, want):
    global wrong, count
    count += 1
    if shown.get(key) != want:
        wrong += 1
        print(f"{key}: {shown.get(key)!r}, expected {want!r}")
digits = {"accuracy": 2, "nll": 4, "ece": 4, "brier": 4}
for method, model in (("sgd", "single"), ("sgd", "single-ema"), ("swa", "single-swa"), ("late", "averaged"),
                      ("late", "ensemble"), ("late", "averaged-ema"), ("late-swa", "averaged-swa"), ("late", "members"),
                      ("lookahead", "single"), ("steps", "single"), ("wd0.005", "averaged"),
                      ("one0.005", "averaged"), ("hyper", "averaged"), ("rank1", "averaged"),
                      ("dropout", "mc-dropout"), ("from0", "averaged"), ("batchensemble", "ensemble")):
    for column, d in digits.items():
        x, base = pick("results", f"c100-{method}", model, column), pick("results", "c100-sgd", "single", column)
        same(f"c100/{method}/{model}/{column}", text(x, d))
        if len(x) == 2 and method + model != "sgdsingle" and model != "members" and column in ("accuracy", "nll"):
            same(f"c100/{method}/{model}/{column}/paired", text([a - b for a, b in zip(x, base)], d, True, "+"))
deep = [r for r in read("results") if r["model"] == "deep-ensemble"]
same("c100/deep/deep-ensemble/accuracy", text([float(deep[0]["accuracy"])], 2))
for method, model in (("base", "single"), ("base", "single-swa"), ("rank1", "single"), ("late", "averaged-swa")):
    same(f"text/{method}/{model}/test_bpc", text(pick("text", f"text-{method}", model, "test_bpc"), 4))
for r in read("quadratic") if os.path.exists(sys.argv[1] + "/quadratic.csv") else []:
    same(f"quadratic/{r['model']}/{r['members']}", f"{float(r['excess']):.5f} \u00b1 {float(r['standard_error']):.5f}")
print(f"{count} numbers, {wrong} wrong")
sys.exit(wrong > 0 or count < 60)
END
check "report: the numbers are those of the tables" python3 "$t/recompute.py" "$RESULTS"

# Tables that are not what they should be.
refuse() { # NAME WORDS: code 2 and a sentence with these words, about the tables in bad/
    python3 examples/paper_report.py --results "$t/bad" >"$t/out" 2>&1
    code=$?
    check "$1: code 2" [ $code = 2 ]
    check "$1: a sentence" says "$2" "$t/out"
}
mkdir "$t/bad"
echo "run,model" >"$t/bad/results.csv"
refuse "a column is missing" "results.csv: expected a column 'dataset'"
sed '2s/[0-9.]*$/much/' "$RESULTS/results.csv" >"$t/bad/results.csv"
refuse "no number" "line 2: 'much': expected a number as brier"
rm "$t/bad/results.csv"
check "no tables at all" python3 examples/paper_report.py --results "$t/bad"
check "no tables: no numbers" no grep -q 'data-cell="[^"]*/accuracy"' "$t/bad/report.html"

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
