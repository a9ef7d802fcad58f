# For the tests of programs: to be read with `.` by a script that has made $dir.

passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL $1"; sed 's/^/     /' "$dir/err" | head -n 5; }

# refuse NAME CODE WORDS COMMAND...: exit code, one line on stderr with these words, no result.
refuse() {
    name=$1 code=$2 words=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    if [ "$got" -eq "$code" ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -qF -e "$words" "$dir/err" \
        && ! grep -q '^result' "$dir/out"; then ok; else bad "$name: code $got, expected $code and: $words"; fi
}
# accept NAME PATTERN COMMAND...: exit code 0, and a last line that matches.
accept() {
    name=$1 pattern=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    if [ "$got" -eq 0 ] && tail -n 1 "$dir/out" | grep -qE -e "$pattern"; then ok
    else bad "$name: code $got, expected 0 and: $pattern"; fi
}
# value KEY: of the last result line.
value() { tail -n 1 "$dir/out" | tr ' ' '\n' | sed -n "s/^$1=//p"; }
# same NAME A B: not empty, and equal.
same() { if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else bad "$1: '$2' and '$3'"; fi; }
