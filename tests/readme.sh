#!/bin/sh
# Every complete C program of README.md (a ```c block with `int main`) compiles and runs.
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
for program in "$t"/*.c; do
    [ -f "$program" ] || continue
    if cc -O1 -Wall -Wextra -Werror -I. "$program" -o "$t/x" -lpthread -lm >"$t/log" 2>&1 \
        && (cd "$t" && ./x >>"$t/log" 2>&1); then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL program ${program##*/} of $readme"
        head -n 12 "$t/log" | sed 's/^/     /'
    fi
done
echo "complete programs in $readme: $((passed + failed))"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
