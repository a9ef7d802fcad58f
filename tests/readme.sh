#!/bin/sh
# Every complete C program of README.md (a ```c block with `int main`) compiles and runs, one after the
# other in one directory, linked with a library of its own; what the first one has learnt and saved, the
# second loads: its last line has the same accuracy and NLL, and they are those that README.md shows.
# usage: tests/readme.sh [FILE]
set -u
cd "$(dirname "$0")/.." || exit 1
readme=${1:-README.md}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
awk -v dir="$t" '
    /^```c *$/ { code = 1; text = ""; next }
    code && /^```/ { code = 0; if (text ~ /int main/) printf "%s", text >(dir "/" ++n ".c"); next }
    code { text = text $0 "\n" }' "$readme"
passed=0 failed=0
fail() {
    failed=$((failed + 1))
    echo "FAIL $1"
    head -n 12 "$t/log" | sed 's/^/     /'
}
printf '#define LP_IMPLEMENTATION\n#include "latephase.h"\n' >"$t/latephase.c"
cc -O1 -I. -c "$t/latephase.c" -o "$t/latephase.o" >"$t/log" 2>&1 || fail "the library does not compile"
for program in "$t"/[0-9].c; do
    [ -f "$program" ] || continue
    if cc -O1 -Wall -Wextra -Werror -I. "$program" "$t/latephase.o" -o "$t/x" -lpthread -lm >"$t/log" 2>&1 \
        && (cd "$t" && ./x >>"$t/log" 2>&1); then passed=$((passed + 1))
    else fail "program ${program##*/} of $readme"; fi
    tail -n 1 "$t/log" | sed 's/^.*: accuracy/accuracy/' >>"$t/last"
done
echo "complete programs in $readme: $(wc -l <"$t/last")"
tail -n 1 "$t/log"
if [ "$(wc -l <"$t/last")" -eq 2 ] && [ "$(sort -u "$t/last" | wc -l)" -eq 1 ] \
    && grep -q "^loaded: $(head -n 1 "$t/last")\$" "$readme"; then passed=$((passed + 1))
else
    cp "$t/last" "$t/log"
    fail "the second program does not repeat the numbers of the first, or $readme shows others"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
