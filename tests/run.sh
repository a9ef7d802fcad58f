#!/bin/sh
# Runs all tests and adds up their closing lines "N passed, N failed[, N skipped]".
# usage: tests/run.sh quick|full [build directory]       (make test, make check)
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick} build=${2:-build}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

# Counts a command's closing line; a command that ends badly or without one is a failure.
run() {
    printf '== %s\n' "$*"
    "$@" >"$log" 2>&1
    code=$?
    cat "$log"
    set -- $(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*/\1 \2/p' "$log" | tail -n 1) \
           $(sed -n 's/.* failed, \([0-9][0-9]*\) skipped.*/\1/p' "$log" | tail -n 1)
    if [ $# -lt 2 ] || { [ "$code" -ne 0 ] && [ "$2" -eq 0 ]; }; then
        echo "   ended with code $code and no closing line that says so: counted as a failure"
        failed=$((failed + 1))
    fi
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0}))
}

all=
[ "$mode" = full ] && all=--all
for name in unit ops algorithm gradcheck gradcheck64 bits graphs; do run "$build/$name" $all; done
run sh tests/cli.sh "$build/cifar" "$build/demo" "$build/enwik8"
run sh data_scripts/test.sh
run sh tests/matrix.sh "$mode"
run sh tests/torch.sh

echo "== total"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
