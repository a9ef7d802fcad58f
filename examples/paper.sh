#!/bin/sh
# paper.sh - the experiments of the paper: a table of runs, of which each is done once
# SPDX-License-Identifier: MIT OR Unlicense
#
# usage: [VARIABLE=VALUE ...] sh examples/paper.sh [--list | --report | --help] [GROUP ...]
#        sh examples/paper.sh --take RUN CHECKPOINT [COURSE]
#
# Groups: main100 sweeps text quadratic oodfew ood main10 ood10 text500, in this order; without one:
# all.
# Run it in the directory of latephase.h after `make`, or as `make paper ARGS="main100"`.
#
#   --list     what is done, what is open, and how long that will take at the speeds measured so far
#   --report   only writes the report
#   --take     takes in a state at T0 that was trained by hand, as the run of that name, with the
#              CSV file of its course.  The runs that branch off it check its options.
#
#   SEEDS      "1 2 3"; the rows marked `first` are run with the first of them only
#   THREADS    2; the results do not depend on it
#   DATA100, DATA10, TEXT   data/cifar100, data/cifar10; data/enwik8, or another file of text
#   OOD        more foreign images for the groups ood..., as measure takes them: mnist=FILE.bin,svhn=FILE.npy
#   RESULTS    examples/results: grid.csv (a row per finished run), the other tables, the report
#   STATE      build/paper: checkpoints, models and logs; not needed for the report
#   BUILD      build: where the programs are
#   AFTER      a command after each finished run (its name is in $RUN), to commit it, for example
#   PAPER_QUICK=1   a form of a few minutes that exercises everything and shows nothing: tiny nets on
#              made-up images, in build/paper-quick
#
# It can be stopped at any time (Ctrl-C, SIGTERM) and started again: what is in grid.csv is not done
# again, and a run under way goes on from its checkpoint.  It may run several times at once, for
# example with THREADS=1 each: no run is taken twice.
#
# A row of grid.csv has a hash of tests/bits.c (bits plain=: a short late-phase training of a Wide
# ResNet).  While the library gives that hash, a run without dropout and noise in the families bn and
# head would give the same numbers again; for others (hyper, batchensemble, text) and for what the
# programs do around the library, the commit counts.
set -u
cd "$(dirname "$0")/.." || exit 1

die() { echo "paper.sh: $*" >&2; exit 2; }

# ------------------------------------------------------------------------------ settings

quick=${PAPER_QUICK:-}
SEEDS=${SEEDS:-$([ "$quick" ] && echo 1 2 || echo 1 2 3)}
THREADS=${THREADS:-2}
BUILD=${BUILD:-build}
home=$BUILD/paper$([ "$quick" ] && echo -quick)
STATE=${STATE:-$home$([ "$quick" ] && echo /state)}
RESULTS=${RESULTS:-$([ "$quick" ] && echo "$home/results" || echo examples/results)}
DATA100=${DATA100:-$([ "$quick" ] && echo "$STATE/data" || echo data/cifar100)}
DATA10=${DATA10:-$([ "$quick" ] && echo "$STATE/data" || echo data/cifar10)}
TEXT=${TEXT:-$([ "$quick" ] && echo README.md || echo data/enwik8)}
[ ! -d "$TEXT" ] || TEXT=$TEXT/enwik8
ood=noise${OOD:+,$OOD}

# Epochs and images.  T0 is at half, for all runs of a seed share the state there; published: 60 %,
# and half with SWA.  The rate is constant to half, as published without SWA (with: to 40 %), and falls
# to 90 % of the epochs; with SWA it falls to half its value by 72 %, and the weights are averaged
# from 80 % on, as published.  The late-phase weights have the weight decay of all; published for
# CIFAR-100 without SWA: ten times that (row wd0.005).
if [ "$quick" ]; then
    net="wrn-10-1 --half --batch 32" epochs=6 t0=3 early=2 late=4 images=200 few=96 held=64
    fall="--lr-from 3 --lr-to 5" flat="--lr-from 3 --lr-to 4 --lr-end 0.05 --swa-from 5" k=3
    k_few=3 ema_few=0.9
    small="--units 16 --embedding 8 --batch 8 --length 25" large="$small --units 24"
    text_epochs=4 text_t0=2 text_swa=3
    more_measure="--flatness 0.01,0.1 --draws 2 --limit-train 64 --limit-test 64"
    more_quadratic="--steps 50 --runs 10"
else
    net=wrn-16-2 epochs=40 t0=20 early=10 late=30 images=50000 few=10000 held=5000
    fall="--lr-from 20 --lr-to 36" flat="--lr-from 20 --lr-to 29 --lr-end 0.05 --swa-from 33" k=10
    k_few=5 ema_few=0.995 # chosen by the rows k2, k3, k5; as many epochs as 0.999 of all images
    small="--units 128 --embedding 64 --batch 32 --length 64 --lr 0.004" large="--units 500"
    text_epochs=10 text_t0=5 text_swa=8
    more_measure="--flatness 0.01,0.02,0.05,0.1,0.2" more_quadratic=
fi

# The runs.  `seeds`: each of SEEDS, or the first.  `from`: the epoch up to which the run shares the
# state of a plain training (its trunk, --branch) with the others of its seed; `-`: it shares nothing.
table() {
    cat <<END
# (Controls: steps has as few steps of the weights as a late phase of K members, without copies;
# one0.005 has the weight decay of row wd0.005, without copies.)
# kind     run            seeds  from    options, after those of the group
main       sgd            each   $t0     --late none --ema 0.999
main       late           each   $t0     --late bn,head --members $k --ema 0.999
main       swa            each   $t0     --late none $flat
main       late-swa       each   $t0     --late bn,head --members $k $flat
main       lookahead      first  $t0     --late none --lookahead 5
main       steps          first  $t0     --late none --accumulate $k
main       wd0.005        first  $t0     --late bn,head --members $k --wd-late 0.005
main       one0.005       first  $t0     --late bn,head --members 1 --wd-late 0.005
main       from0          first  -       --late bn,head --members $k --t0 0
main       hyper          first  -       --late hyper --members $k --t0 $t0
main       rank1          first  -       --late rank1 --members $k --t0 $t0
main       dropout        first  -       --late none --dropout 0.3 --mc-dropout 20
main       batchensemble  first  -       --late batchensemble --members $k --t0 0
sweeps     sgd            each   $t0     --late none
sweeps     ema            each   $t0     --late none --ema $ema_few
sweeps     swa            each   $t0     --late none $flat
sweeps     late-swa       each   $t0     --late bn,head --members $k_few $flat
sweeps     lookahead      each   $t0     --late none --lookahead 5
sweeps     steps          each   $t0     --late none --accumulate $k_few
sweeps     k2             each   $t0     --late bn,head --members 2
sweeps     k3             each   $t0     --late bn,head --members 3
sweeps     k5             each   $t0     --late bn,head --members 5
sweeps     k10            each   $t0     --late bn,head --members 10
sweeps     k20            each   $t0     --late bn,head --members 20
sweeps     start0         each   -       --late bn,head --members $k_few --t0 0
sweeps     start$early    each   $early  --late bn,head --members $k_few
sweeps     start$late     each   $late   --late bn,head --members $k_few
sweeps     sigma0.1       each   $t0     --late bn,head --members $k_few --sigma0 0.1
sweeps     sigma0.3       each   $t0     --late bn,head --members $k_few --sigma0 0.3
sweeps     sigma1         each   $t0     --late bn,head --members $k_few --sigma0 1
sweeps     gamma0.1       each   $t0     --late bn,head --members $k_few --gamma 0.1
sweeps     gamma0.3       each   $t0     --late bn,head --members $k_few --gamma 0.3
sweeps     gamma0.6       each   $t0     --late bn,head --members $k_few --gamma 0.6
sweeps     wd0            each   $t0     --late bn,head --members $k_few --wd-late 0
sweeps     wd0.005        each   $t0     --late bn,head --members $k_few --wd-late 0.005
sweeps     one0.005       each   $t0     --late bn,head --members 1 --wd-late 0.005
sweeps     hyper          first  -       --late hyper --members $k_few --t0 $t0
sweeps     rank1          first  -       --late rank1 --members $k_few --t0 $t0
sweeps     dropout        first  -       --late none --dropout 0.3 --mc-dropout 20
sweeps     batchensemble  first  -       --late batchensemble --members $k_few --t0 0
text       base           each   -       --late none
text       rank1          each   $text_t0  --late rank1 --members 1
text       late           each   $text_t0  --late rank1 --members 5
END
}

# group GROUP: the prefix of its runs, its rows in the table, program and options; `last`: those that
# a trunk does without.  @...@ stand for directories: the commands in grid.csv have the usual ones.
groups="main100 sweeps text quadratic oodfew ood main10 ood10 text500"
group() {
    program=cifar trunk="--late none" work=$images seeds=$SEEDS pace=${net%% *} last=''
    cifar="--net $net $fall" length=$epochs
    case $1 in
    main100) prefix=c100 rows=main options="--data @DATA100@ --dataset cifar100 $cifar" ;;
    main10) prefix=c10 rows=main options="--data @DATA10@ --dataset cifar10 $cifar" ;;
    sweeps) prefix=sweep rows=sweeps work=$few
        options="--data @DATA100@ --dataset cifar100 --limit-train $few --validation $held $cifar" ;;
    text | text500)
        prefix=$1 rows=text program=enwik8 trunk="--late rank1 --members 1" work=1 pace=$1
        [ "$1" = text ] && size=$small || size=$large seeds=${SEEDS%% *}
        options="@TEXT@ $size --lr-from $text_t0 --lr-to $text_epochs" length=$text_epochs
        last=" --swa-from $text_swa" ;;
    *) prefix=$1 rows=none ;;
    esac
}

# ---------------------------------------------------------------------------------- plan

# row RUN METHOD BASES WORK COMMAND: a line of the plan, whose fields are group|run|method|runs that
# must be done before|work, in units that take `pace` seconds each|pace|command
row() { echo "$the_group|$1|$2|$3|$4|$pace|$5"; }

# Trunks to that epoch; in the sweeps, which have several, each goes on from the one before.
trunk_rows() { # EPOCHS SEED
    before=0 base=
    for e in $early $t0 $late $1; do
        [ "$e" = "$1" ] || { [ $rows = sweeps ] && [ "$e" -lt "$1" ]; } || continue
        row "$prefix-trunk$e-$2" "to T0 = $e" "$base" $(((e - before) * work)) \
            "$program $options --epochs $e $trunk --seed $2"
        [ "$e" != "$1" ] || return 0
        before=$e base=$prefix-trunk$e-$2
    done
}

# The runs of a group: all seeds of the rows `each`, then the rows `first`.
grid_rows() {
    for seed in $seeds "first ${seeds%% *}"; do
        which=each
        [ "${seed% *}" = first ] && which=first seed=${seed#* }
        table | while read -r kind run when from more; do
            [ "$kind" = $rows ] && [ "$when" = $which ] || continue
            command="$options --epochs $length$last $more --seed $seed"
            if [ "$from" = - ]; then
                row "$prefix-$run-$seed" "$run" "" $((length * work)) "$program $command"
            else
                trunk_rows "$from" "$seed"
                base=$prefix-trunk$from-$seed
                row "$prefix-$run-$seed" "$run" "$base" $(((length - from) * work)) \
                    "$program --branch @STATE@/$base.ck --t0 $from $command"
            fi
        done
    done
}

# The nets of a deep ensemble: the trained SGD nets of all seeds, in `bases`; none if there is only one.
deep_bases() { # PREFIX
    bases=''
    for s in $SEEDS; do bases="$bases${bases:+ }$1-sgd-$s"; done
    [ "$bases" != "${bases#* }" ]
}

# They are as they are in their last checkpoints.  cifar counts the seeds of its nets by ones.
deep_row() {
    n=0 first=${seeds%% *}
    for s in $seeds; do
        [ "$s" = $((first + n)) ] || return 0
        n=$((n + 1))
    done
    deep_bases "$prefix" || return 0
    pace=deep
    row "$prefix-deep" deep "$bases" 1 \
        "$program $options --epochs $length --late none --seed $first --ensemble $n --eval --weights @STATE@/$prefix-sgd-%d.ck"
}

# What is measured of the nets of one seed, and of the deep ensemble of all.  A checkpoint has the
# weights without EMA, but also without SWA.
measure_rows() { # PREFIX DATA OPTIONS: of the runs PREFIX-...
    pace=measure
    for run in sgd late swa late-swa dropout; do
        base=$1-$run-${SEEDS%% *}
        [ "$1-$run" != sweep-late ] || base=$1-k$k_few-${SEEDS%% *}
        case $run in
        *swa) file=$base.st ;;
        *) file=$base.ck ;;
        esac
        row "$the_group-$run-${SEEDS%% *}" "$run" "$base" 1 \
            "measure --data $2 --weights @STATE@/$file --reliability --histograms $3 $more_measure"
    done
    deep_bases "$1" || return 0
    files=
    for base in $bases; do files=$files${files:+,}@STATE@/$base.ck; done
    row "$the_group-deep" deep "$bases" 1 \
        "measure --data $2 --weights $files --reliability --histograms $3"
}

group_rows() {
    the_group=$1
    group "$1"
    case $1 in
    quadratic) pace=quadratic; row quadratic quadratic "" 1 "quadratic $more_quadratic" ;;
    oodfew) measure_rows sweep @DATA100@ "--ood cifar10=@DATA10@,@OOD@ --corruptions" ;;
    ood) measure_rows c100 @DATA100@ "--ood cifar10=@DATA10@,@OOD@ --corruptions" ;;
    ood10) measure_rows c10 @DATA10@ "--ood cifar100=@DATA100@,@OOD@" ;;
    *) grid_rows
       [ $rows != main ] || deep_row ;;
    esac
}

# The whole plan, each run once; then the runs of the chosen groups and what they stand on.
make_plan() {
    for g in $groups; do group_rows "$g"; done | awk -F'|' '!seen[$2]++' >"$STATE/plan.all.$$"
    awk -F'|' -v chosen=" $* " '{ line[NR] = $0 }
        END { for (i = NR; i; i--) {
                  split(line[i], f, "|")
                  if (index(chosen, " " f[1] " ") || needed[f[2]]) {
                      keep[i] = 1
                      n = split(f[4], base, " ")
                      for (j = 1; j <= n; j++) needed[base[j]] = 1
                  } }
              for (i = 1; i <= NR; i++) if (keep[i]) print line[i] }' "$STATE/plan.all.$$" >"$plan"
    [ $mode = list ] || [ $mode = take ] || write_plan
    rm "$STATE/plan.all.$$"
}
write_plan() {
    { echo group,run,method; cut -d'|' -f1-3 "$STATE/plan.all.$$" | tr '|' ,; } >"$STATE/plan.csv.$$"
    mv "$STATE/plan.csv.$$" "$RESULTS/plan.csv"
}

# ------------------------------------------------------------------------------- one run

grid_header=run,method,seconds,commit,bits,command
is_done() { grep -q "^$1," "$RESULTS/grid.csv"; }
bits_of() { sed -n "s/^$1,.*,\([0-9a-f]*\),\"[^\"]*\"\$/\1/p" "$RESULTS/grid.csv"; }

# A directory as a lock, with the process that holds it, or the program that it has left behind; what
# the dead have left does not count.
lock() {
    while ! mkdir "$STATE/$1.lock" 2>/dev/null; do
        for holder in $(cat "$STATE/$1.lock"/* 2>/dev/null || echo $$); do
            kill -0 "$holder" 2>/dev/null && return 1
        done
        rm -rf "$STATE/$1.lock"
    done
    echo $$ >"$STATE/$1.lock/pid"
}
unlock() { rm -rf "$STATE/$1.lock"; }

commit() {
    hash=$(git rev-parse --short HEAD 2>/dev/null) || { echo none; return; }
    git diff --quiet HEAD -- latephase.h examples/*.c examples/*.h 2>/dev/null || hash=$hash+
    echo "$hash"
}

# In place of @...@ the directories of this machine, or those that everyone has.
places() {
    if [ "$1" = here ]; then
        sed "s|@OOD@|$ood|; s|@DATA100@|$DATA100|g; s|@DATA10@|$DATA10|g; s|@TEXT@|$TEXT|g
             s|@STATE@|$STATE|g"
    else
        sed "s|@OOD@|$(echo "$ood" | sed 's|=[^,]*/|=|g')|; s|@DATA100@|data/cifar100|g
             s|@DATA10@|data/cifar10|g; s|@TEXT@|$(basename "$TEXT")|g; s|@STATE@|build/paper|g"
    fi
}

# append RUN FROM TO: the rows of FROM take the place of any that TO has of this run.
append() {
    [ -s "$2" ] || return 0
    if [ -f "$3" ] && [ "$(head -n 1 "$2")" != "$(head -n 1 "$3")" ]; then
        echo "$3: its columns are not those of $2"
        return 1
    fi
    { if [ -f "$3" ]; then grep -v "^$1," "$3"; else head -n 1 "$2"; fi
      tail -n +2 "$2"; } >"$3.part" && mv "$3.part" "$3"
}

# The rows of the run's own files join the tables; grid.csv comes last, so a run in it is whole.
record() { # RUN METHOD PROGRAM COMMAND
    until lock record; do sleep 1; done
    own=$STATE/$1
    join_tables "$1" "$3" &&
        echo "$1,$2,$(cat "$own.seconds"),$(commit),$bits,\"$4\"" >>"$RESULTS/grid.csv"
    joined=$?
    unlock record
    return $joined
}
join_tables() { # RUN PROGRAM
    case $2 in
    quadratic) cp "$own.results.csv" "$RESULTS/quadratic.csv"; return ;;
    measure) append "$1" "$own.results.csv" "$RESULTS/measures.csv"; return ;;
    enwik8) results=text.csv courses=text_courses.csv ;;
    cifar) results=results.csv courses=courses.csv ;;
    esac
    append "$1" "$own.results.csv" "$RESULTS/$results" || return 1
    [ -f "$own.course.csv" ] || return 0
    sed "1s/^/run,/; 2,\$s/^/$1,/" "$own.course.csv" >"$own.part"
    append "$1" "$own.part" "$RESULTS/$courses" && rm "$own.part"
}

# The files that a program writes, and the checkpoint it goes on from.
with_files() { # RUN PROGRAM COMMAND
    own=$STATE/$1
    case $2 in
    quadratic) echo "$3 --csv $own.results.csv"; return ;;
    measure) echo "$3 --csv $own.results.csv --run $1 --threads $THREADS"; return ;;
    esac
    case $3 in
    *--eval*) echo "$3 --results $own.results.csv --run $1 --threads $THREADS"; return ;;
    esac
    keep="--checkpoint $own.ck"
    [ ! -f "$own.ck" ] || keep="--resume $own.ck"
    files="$keep --checkpoint-minutes 2 --csv $own.course.csv --results $own.results.csv --run $1"
    files="$files --threads $THREADS --save $own.st --save-members"
    if [ -f "$own.ck" ]; then echo "$3 $files" | sed 's/ --branch [^ ]*//'; else echo "$3 $files"; fi
}

# What a run finds of its own from before: of other arithmetic it is of no use.  A longer trunk
# begins as a copy of the shorter one.
prepare() { # RUN BASES
    own=$STATE/$1
    if [ -f "$own.ck" ] && [ "$(cat "$own.bits" 2>/dev/null)" != "$bits" ]; then
        echo "$1: its checkpoint was made with bits $(cat "$own.bits" 2>/dev/null): begun again"
        rm -f "$own.ck" "$own.seconds" "$own.course.csv"
    fi
    echo "$bits" >"$own.bits"
    rm -f "$own.results.csv"
    [ -f "$own.seconds" ] || echo 0 >"$own.seconds"
    case $1 in
    *-trunk*) [ -z "$2" ] || [ -f "$own.ck" ] || { cp "$STATE/$2.course.csv" "$own.course.csv"
                                                     cp "$STATE/$2.ck" "$own.ck"; } ;;
    esac
}

# The program runs in the background, so that a signal can be passed on.  Ctrl-C a training has got
# from the terminal; a second signal would end it without a checkpoint.
stop='' child='' trains=''
on_stop() {
    stop=$1
    [ -n "$child" ] || return
    [ "$1" = INT ] && [ -n "$trains" ] || kill -TERM "$child" 2>/dev/null
}
trap 'on_stop INT' INT
trap 'on_stop TERM' TERM
execute() { # RUN COMMAND
    begin=$(date +%s) trains=
    case $2 in *--checkpoint*) trains=1 ;; esac
    # shellcheck disable=SC2086 # words of the command
    $BUILD/$2 >>"$STATE/$1.log" 2>&1 &
    child=$!
    echo $child >"$STATE/$1.lock/program"
    while :; do
        wait $child
        code=$?
        kill -0 $child 2>/dev/null || break # a signal ends `wait` before the program has ended
    done
    child=
    echo $(($(cat "$STATE/$1.seconds") + $(date +%s) - begin)) >"$STATE/$1.seconds.part"
    mv "$STATE/$1.seconds.part" "$STATE/$1.seconds"
    return "$code"
}

# Is what a run stands on done, by the code as it is now?  If not, `why` says it in words.
stands() { # RUN BASES
    for b in $2; do
        why="$1: waits for $b, which is not done"
        is_done "$b" || return 1
        why="$1: $b was made with bits $(bits_of "$b"), now they are $bits; without its row in
    $RESULTS/grid.csv it will be done again"
        [ "$(bits_of "$b")" = "$bits" ] || return 1
    done
}

# attempt RUN METHOD BASES COMMAND: returns 0 if it is now done, or was; 1: failed; 2: another process
# has it; 3: what it stands on is missing.
attempt() {
    is_done "$1" && return 0
    stands "$1" "$3" || return 3
    lock "$1" || return 2
    if is_done "$1"; then # by another process, just now
        unlock "$1"
        return 0
    fi
    prepare "$1" "$3"
    shown=$(echo "$4" | places usual)
    full=$(with_files "$1" "${4%% *}" "$(echo "$4" | places here)")
    echo "$1: $([ -f "$STATE/$1.ck" ] && echo goes on || echo begins)"
    execute "$1" "$full" && record "$1" "$2" "${4%% *}" "$BUILD_SHOWN/${shown% }"
    code=$?
    unlock "$1"
    [ $code = 0 ] || { [ -z "$stop" ] || return 1
        echo "$1: failed with code $code; the end of $STATE/$1.log:"
        tail -n 3 "$STATE/$1.log" | sed 's/^/    /'
        return 1; }
    echo "$1: done in $(cat "$STATE/$1.seconds") s"
    [ -z "${AFTER:-}" ] || RUN=$1 sh -c "$AFTER" || echo "$1: AFTER failed"
}
BUILD_SHOWN=build

# All of the plan that is open.  What others do at the same time is waited for.
all_runs() {
    failed=''
    while :; do
        busy='' waiting='' reasons=''
        while IFS='|' read -r _ run method bases _ _ command <&3; do
            case " $failed " in *" $run "*) continue ;; esac
            attempt "$run" "$method" "$bases" "$command" </dev/null
            case $? in
            1) failed="$failed $run" ;;
            2) busy=1 ;;
            3) waiting="$waiting $run" reasons="$reasons$why
" ;;
            esac
            [ -z "$stop" ] || { echo "stopped; the same command goes on from here"; return 1; }
        done 3<"$plan"
        [ -n "$busy" ] || break
        sleep 2
    done
    [ -n "$failed$waiting" ] || return 0
    printf %s "$reasons"
    echo "not done:$failed$waiting"
    return 1
}

# ---------------------------------------------------------------------------------- list

# Minutes of what is open, by the seconds that a unit of work has taken in the runs that are done.
list() {
    for run in $(cut -d'|' -f2 "$plan"); do
        [ -f "$STATE/$run.course.csv" ] && echo "$run $(tail -n 1 "$STATE/$run.course.csv" | cut -d, -f1)"
    done >"$STATE/under-way.$$"
    awk -F'|' -v bits="$bits" '
        FILENAME ~ /grid.csv$/ {
            split($0, g, ",")
            if (FNR > 1) { seconds[g[1]] = g[3] + 0; commit[g[1]] = g[4]; made[g[1]] = g[5] }
            next
        }
        FILENAME ~ /under-way/ { split($0, u, " "); epoch[u[1]] = u[2]; next }
        { n++; run[n] = $2; work[n] = $5; pace[n] = $6; command[n] = $7
          if ($2 in made && seconds[$2]) { took[$6] += seconds[$2]; units[$6] += $5 } }
        function number_of(text, option) {
            return index(text, option) ? substr(text, index(text, option) + length(option)) + 0 : 0
        }
        function clock(s) { return s < 5400 ? sprintf("%.0f min", s / 60) : sprintf("%.1f h", s / 3600) }
        END {
            printf "%-26s %9s  %s\n", "run", "time", "state"
            for (i = 1; i <= n; i++) {
                if (run[i] in made) {
                    done++; spent += seconds[run[i]]
                    printf "%-26s %9s  done, commit %s%s\n", run[i], clock(seconds[run[i]]), commit[run[i]], \
                        made[run[i]] == bits ? "" : ", with other bits: " made[run[i]]
                    continue
                }
                left = -1
                if (units[pace[i]]) left = work[i] * took[pace[i]] / units[pace[i]]
                state = "open"
                if (run[i] in epoch) {
                    state = "under way, epoch " epoch[run[i]]
                    total = number_of(command[i], "--epochs ")
                    from = command[i] ~ /--branch/ ? number_of(command[i], "--t0 ") : 0
                    if (left > 0 && total > from && epoch[run[i]] + 0 >= from)
                        left *= (total - epoch[run[i]]) / (total - from)
                }
                if (left < 0) unknown++; else open += left
                printf "%-26s %9s  %s\n", run[i], left < 0 ? "?" : clock(left), state
            }
            printf "%d of %d runs done in %s; about %s left", done, n, clock(spent), clock(open)
            if (unknown) printf ", and %d of unknown speed", unknown
            print ""
        }' "$RESULTS/grid.csv" "$STATE/under-way.$$" "$plan"
    rm "$STATE/under-way.$$"
}

# A state that was trained by hand becomes the run of that name.
take() { # RUN CHECKPOINT [COURSE]
    [ $# -ge 2 ] || die "--take: expected RUN CHECKPOINT [COURSE]"
    line=$(awk -F'|' -v run="$1" '$2 == run' "$plan")
    [ -n "$line" ] || die "--take $1: there is no such run in the plan"
    [ -f "$2" ] || die "--take $1 $2: no such file"
    ! is_done "$1" || die "--take $1: it is done already"
    lock "$1" || die "--take $1: another process has it"
    rm -f "$STATE/$1.results.csv"
    command=$(echo "$line" | cut -d'|' -f7)
    test_command=$(echo "$command" | places here)
    # shellcheck disable=SC2086 # words of the command
    $BUILD/$test_command --eval --weights "$2" --results "$STATE/$1.results.csv" --run "$1" \
        >"$STATE/$1.log" 2>&1 ||
        { tail -n 3 "$STATE/$1.log"; unlock "$1"; die "--take $1 $2: it cannot be tested"; }
    seconds=0
    [ $# -eq 2 ] || seconds=$(tail -n 1 "$3" | awk -F, '{ printf "%.0f\n", $NF }')
    { [ $# -eq 2 ] || cp "$3" "$STATE/$1.course.csv"; } && echo "${seconds:-0}" >"$STATE/$1.seconds" &&
        echo "$bits" >"$STATE/$1.bits" && cp "$2" "$STATE/$1.ck" ||
        { unlock "$1"; die "--take $1 $2: it cannot be copied to $STATE"; }
    method=$(echo "$line" | cut -d'|' -f3)
    record "$1" "$method" "${command%% *}" "$BUILD_SHOWN/$(echo "$command" | places usual)" &&
        echo "$1: taken in"
    unlock "$1"
}

report() {
    python3 -c '' 2>/dev/null || { echo "no report: python3 is missing"; return; }
    python3 examples/paper_report.py --results "$RESULTS" --bits "$bits" ${quick:+--quick} &&
        echo "report: $RESULTS/report.html"
}

# What the open runs of the plan read.
check_data() {
    while IFS='|' read -r _ run _ _ _ _ command; do
        is_done "$run" && continue
        for what in "DATA100 $DATA100" "DATA10 $DATA10" "TEXT $TEXT"; do
            case $command in
            *@"${what%% *}"@*) [ -e "${what#* }" ] || die "${what%% *} '${what#* }': no such file (run $run reads it)" ;;
            esac
        done
    done <"$plan"
}

# Noise in the format of both CIFARs, brighter for higher classes; it is made for the quick form.
made_up_images() {
    [ -f "$STATE/data/test.bin" ] && return
    mkdir -p "$STATE/data"
    LC_ALL=C awk 'BEGIN { srand(7)
        for (i = 0; i < 200; i++) {
            printf "%c", i % 10 ? i % 10 : 256
            for (j = 0; j < 3072; j++) printf "%c", 40 + 15 * (i % 10) + int(rand() * 60)
        } }' >"$STATE/data/data_batch_1.bin"
    LC_ALL=C awk 'BEGIN { srand(8)
        for (i = 0; i < 200; i++) {
            printf "%c%c", 1 + i % 19, i % 100 ? i % 100 : 256
            for (j = 0; j < 3072; j++) printf "%c", 20 + 2 * (i % 100) + int(rand() * 30)
        } }' >"$STATE/data/train.bin"
    cp "$STATE/data/data_batch_1.bin" "$STATE/data/test_batch.bin"
    cp "$STATE/data/train.bin" "$STATE/data/test.bin"
}

# ---------------------------------------------------------------------------------- main

mode=run chosen=
case ${1:-} in
--help | -h)
    sed -n '4,/^set -u/{/^#/s/^# \{0,1\}//p;}' "examples/paper.sh"
    exit 0 ;;
--list | --report | --take) mode=${1#--}; shift ;;
esac
if [ "$mode" != take ]; then
    for g in "$@"; do
        case " $groups " in
        *" $g "*) chosen="$chosen $g" ;;
        *) die "'$g': expected --list, --report, --take, --help or one of the groups $groups" ;;
        esac
    done
fi
for s in $SEEDS; do
    case $s in '' | *[!0-9]*) die "SEEDS '$SEEDS': expected whole numbers" ;; esac
done
case $THREADS in '' | *[!0-9]*) die "THREADS '$THREADS': expected a whole number" ;; esac
for place in "$STATE" "$RESULTS" "$DATA100" "$DATA10" "$TEXT"; do
    case $place in *[\ \|]*) die "'$place': expected a path without blanks" ;; esac
done
[ -x "$BUILD/bits" ] || die "$BUILD/bits is missing: make $BUILD/bits"
bits=$("$BUILD/bits" --small --filter plain | sed -n 's/^bits plain=//p')
[ -n "$bits" ] || die "$BUILD/bits --small --filter plain: expected a line 'bits plain=...'"
for place in "STATE $STATE" "RESULTS $RESULTS"; do
    mkdir -p "${place#* }" 2>/dev/null && (: >"${place#* }/.writable") 2>/dev/null ||
        die "$place: expected a directory that can be written"
    rm -f "${place#* }/.writable"
done
[ -f "$RESULTS/grid.csv" ] || echo $grid_header >"$RESULTS/grid.csv"
plan=$STATE/plan.$$
trap 'rm -f "$STATE"/*.'$$ EXIT
# shellcheck disable=SC2086 # several words
make_plan ${chosen:-$groups}
[ -z "$quick" ] || made_up_images
[ $mode != run ] || check_data
case $mode in
list) list ;;
report) report ;;
take) take "$@" ;;
run)
    all_runs
    code=$?
    [ "$stop" = INT ] && exit 130
    [ "$stop" = TERM ] && exit 143
    report
    exit $code ;;
esac
