#!/bin/sh
# The sources are what clang-format makes of them (Debian's clang-format 14; other versions differ).
set -u
cd "$(dirname "$0")/.." || exit 1
version=$(clang-format --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p')
if [ "${version:-0}" != 14 ]; then
    echo "skipped: clang-format 14, found ${version:-none}"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0
for f in latephase.h examples/*.[ch] examples/*/*.[ch] tests/*.[ch] reference/*.[ch]; do
    [ -f "$f" ] || continue
    lines=$(clang-format "$f" | diff "$f" - | grep -c '^[<>]')
    if [ "$lines" -eq 0 ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $f: $lines lines of the difference; to format it: clang-format -i $f"; fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
