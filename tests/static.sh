#!/bin/sh
# What static analysis finds in the header and the examples: cppcheck, clang-tidy (bugprone, cert) and
# gcc -fanalyzer.  An absent tool is skipped with a line, not passed.
# usage: tests/static.sh
set -u
cd "$(dirname "$0")/.." || exit 1
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
posix="-std=c99 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE"
printf '#define LP_IMPLEMENTATION\n#include "latephase.h"\n' >"$t/header.c"

has() { command -v "$1" >/dev/null 2>&1 && return; skipped=$((skipped + 1)); echo "skipped: $1"; return 1; }
# clean NAME COMMAND...: passes when the command says nothing about a warning, and does not fail.
clean() {
    name=$1
    shift
    if "$@" >"$t/log" 2>&1 && ! grep -qE '(warning|error|performance|portability): ' "$t/log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        grep -E '(warning|error|performance|portability): ' "$t/log" | head -n 12 | sed 's/^/     /'
    fi
}

# Exceptions, and why:
#   easily-swappable-parameters, macro-parentheses  arguments of macros here are types, names and
#       operators; the order of sizes is that of the mathematics
#   implicit-widening-of-multiplication-result  products of an element count below 2^31, which is what
#       the builders see to, or of small constants
#   sizeof-expression  takes room for an array of pointers for a mistake
#   err33-c  wants the result of each printf and fclose: the programs ask stdout once, at the end, and
#       what is written to keep is asked in latephase.h (fflush, fclose of what was written)
#   err34-c  sscanf in cifar.c: the numbers are printed again and compared with the text
#   reserved identifiers  _POSIX_C_SOURCE and _DEFAULT_SOURCE are how a program asks for POSIX
checks='-*,bugprone-*,cert-*'
for name in bugprone-easily-swappable-parameters bugprone-macro-parentheses \
    bugprone-implicit-widening-of-multiplication-result bugprone-sizeof-expression cert-err33-c \
    cert-err34-c bugprone-reserved-identifier cert-dcl37-c cert-dcl51-cpp; do
    checks="$checks,-$name"
done
tidy() { clang-tidy --quiet -header-filter='.*' "-checks=$checks" "$1" -- $posix $2 -I. -Ibuild; }

if has clang-tidy; then
    for flags in "" -DLP_NO_SIMD "-DLP_NO_TRAINING -DLP_NO_SIMD" "-DLP_NO_STDLIB -DLP_NO_THREADS"; do
        clean "clang-tidy latephase.h $flags" tidy "$t/header.c" "$flags"
    done
    for f in examples/*.c examples/web/web.c; do clean "clang-tidy $f" tidy "$f" "-DLP_NO_SIMD -DLIBRARY_APART"; done
fi

if has cppcheck; then
    check() { cppcheck -q --std=c99 --enable=warning,portability,performance --max-configs=1 -I. -Ibuild "$@"; }
    for flags in "" -DLP_NO_TRAINING -DLP_NO_STDLIB; do
        clean "cppcheck latephase.h $flags" check -DLP_NO_SIMD -DLP_IMPLEMENTATION $flags "$t/header.c"
    done
    for f in examples/*.c examples/web/web.c; do clean "cppcheck $f" check -DLP_NO_SIMD "$f"; done
fi

# gcc's needs minutes for the whole header: it reads that once, and the examples without it.
if has gcc && gcc -fanalyzer -E - </dev/null >/dev/null 2>&1; then
    analyse() { gcc $posix -O0 -DLP_NO_SIMD -fanalyzer $leaks -I. -Ibuild -iquote examples -c "$1" -o "$t/o.o"; }
    leaks=
    clean "gcc -fanalyzer latephase.h" analyse "$t/header.c"
    # A program that ends by die() or exit() leaves memory and files to the system.
    leaks="-Wno-analyzer-malloc-leak -Wno-analyzer-file-leak"
    for f in examples/*.c; do
        sed '/define LP_IMPLEMENTATION/d; /define LP_STATIC/d' "$f" >"$t/${f##*/}"
        clean "gcc -fanalyzer $f" analyse "$t/${f##*/}"
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
