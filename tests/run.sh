#!/bin/sh
# Runs all tests, two at a time, prints what they say in a fixed order and adds up their closing lines
# "N passed, N failed[, N skipped]".
# usage: [TEST_TIMES=1] tests/run.sh quick|rest|full [BUILD]
#   quick  make test: within four minutes, building included
#   rest   make test-rest: what quick leaves out, in the form of as few minutes
#   full   make check: all, within the hour
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick} build=${2:-build}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
count=0 first='' rest=''
passed=0 failed=0 skipped=0

# job COMMAND...: one more test; long COMMAND...: one to begin with.
add() { count=$((count + 1)); printf '%s\n' "$*" >"$t/$count.job"; }
job() { add "$@"; rest="$rest $count"; }
long() { add "$@"; first="$first $count"; }

# A lane takes the next test that nobody has taken, until none is left.
lane() {
    for i in $first $rest; do
        mkdir "$t/$i.taken" 2>/dev/null || continue
        (sh -c "$(cat "$t/$i.job")" >"$t/$i.log" 2>&1; code=$?; times >"$t/$i.times"; exit $code)
        echo $? >"$t/$i.ended" && mv "$t/$i.ended" "$t/$i.code"
    done
}

# Prints and counts test i once it has ended; one that ends badly or without a closing line is a
# failure.
report() {
    i=$1
    while [ ! -f "$t/$i.code" ] && { kill -0 "$lane1" || kill -0 "$lane2"; } 2>/dev/null; do sleep 0.2; done
    printf '== %s\n' "$(cat "$t/$i.job")"
    cat "$t/$i.log"
    [ -z "${TEST_TIMES:-}" ] || echo "   $(tail -n 1 "$t/$i.times") CPU"
    code=$(cat "$t/$i.code" 2>/dev/null || echo none)
    set -- $(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*/\1 \2/p' "$t/$i.log" | tail -n 1) \
           $(sed -n 's/.* failed, \([0-9][0-9]*\) skipped.*/\1/p' "$t/$i.log" | tail -n 1)
    if [ $# -lt 2 ] || { [ "$code" != 0 ] && [ "$2" -eq 0 ]; }; then
        echo "   ended with code $code and no closing line that says so: counted as a failure"
        failed=$((failed + 1))
    fi
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0}))
}

full() { [ "$mode" = full ]; }
full && all=--all || all=
if [ "$mode" != rest ]; then
    for name in unit ops algorithm gradcheck gradcheck64 bits faults corrupt images files; do job "$build/$name" $all; done
    job "$build/graphs" $(full && echo --count 8000)
    job "$build/graphs" --double $(full && echo --count 1000 || echo --small)
    job sh tests/cli.sh "$build/cifar" "$build/demo" "$build/enwik8" "$build/sweep"
    job sh tests/finetune.sh "$build/finetune"
    job sh tests/imagenet.sh "$mode" "$build/imagenet"
    job sh tests/measure.sh "$build/measure" "$build/cifar"
    long sh tests/resume.sh "$mode" "$build/cifar" "$build/enwik8"
    job sh tests/table.sh "$build/table" "$build/predict"
    job sh tests/quadratic.sh "$build/quadratic"
    job sh tests/export.sh "$mode" "$build"
    job sh tests/web.sh "$mode" "$build"
    long sh tests/matrix.sh "$mode" "$build" linking
    job sh tests/torch.sh "$build/impl.o" $(full && echo full)
    job sh tests/readme.sh
    job sh tests/lines.sh
fi
if [ "$mode" != quick ]; then
    size=quick
    full && size=full
    for section in memory machines bits windows warnings; do long sh tests/matrix.sh $size "$build" $section; done
    job sh tests/paper.sh $size "$build"
    job sh data_scripts/test.sh
fi
if full; then
    job sh tests/format.sh
    job sh tests/microcontroller.sh "$build"
    job sh tests/static.sh
fi

lane & lane1=$!
lane & lane2=$!
i=0
while [ $i -lt $count ]; do i=$((i + 1)); report $i; done
wait

echo "== total"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
