#!/bin/sh
# The page of examples/web: its size; the same bits in node and from this machine's compiler; full:
# what a visitor sees in headless Chromium.  An absent tool is skipped with a line, not passed.
# usage: tests/web.sh quick|full [BUILD [DIRECTORY]]      (for screenshots)
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick} build=${2:-build} pictures=${3:-}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
page=$build/web/latephase.html

has() { command -v "$1" >/dev/null 2>&1; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $1"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

if ! has clang || ! has wasm-ld; then skip "the page (clang, lld)"; finish; fi
if make B="$build" web >"$t/log" 2>&1; then pass; else fail "make web"; tail -n 5 "$t/log"; finish; fi
bytes=$(wc -c <"$page")
if [ "$bytes" -le 153600 ]; then pass; else fail "the page has $bytes bytes, at most 153600"; fi
if grep -q '@[A-Z]*@' "$page"; then fail "the page still has a mark of the template"; else pass; fi

if has node; then
    cc -O1 -ffp-contract=off -DWEB_ISA=LP_ISA_SCALAR tests/web.c -o "$t/web" || fail "tests/web.c does not build"
    "$t/web" >"$t/here"
    node tests/web.js "$page" >"$t/there" 2>&1
    if [ "$(grep -c '^web ok' "$t/here")" = 2 ] && cmp -s "$t/here" "$t/there"; then pass
    else fail "this machine's scalar kernels and WebAssembly differ"; cat "$t/here" "$t/there"; fi
    accuracy=$(sed -n '1s/.*accuracy=\([0-9]*\).*/\1/p' "$t/there")
    if [ "${accuracy:-0}" -ge 60 ]; then pass; else fail "a tenth of a training: $accuracy % of the test images"; fi
else skip "the bits of the page in node"; fi

if [ "$mode" = full ]; then
    chromium=
    for name in chromium chromium-browser google-chrome; do [ -n "$chromium" ] || ! has $name || chromium=$name; done
    if [ -n "$chromium" ] && has node; then
        node tests/web_page.js "$chromium" "$page" $pictures >"$t/log" 2>&1
        cat "$t/log"
        set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$t/log")
        passed=$((passed + ${1:-0})) failed=$((failed + ${2:-1}))
    else skip "the page in a browser (chromium, node)"; fi
fi
finish
