#!/bin/sh
# The compile and bit matrix: compilers, modes, sanitizers, other machines; in three lanes at a time.
# usage: [MATRIX_TIMES=1] tests/matrix.sh quick|full     An absent tool is skipped with a line, not passed.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror"

has() { command -v "$1" >/dev/null 2>&1; }
# Every outcome is a line in $t/tally, so that lanes can count side by side.
pass() { echo passed >>"$t/tally"; }
fail() { echo failed >>"$t/tally"; echo "FAIL $1"; }
skip() { echo skipped >>"$t/tally"; echo "skipped: $1"; }
# try NAME COMMAND...: passes when the command does.
try() {
    name=$1 log=$(mktemp -p "$t") begin=$(date +%s)
    shift
    if "$@" >"$log" 2>&1; then pass; [ -z "${MATRIX_TIMES:-}" ] || echo "$(($(date +%s) - begin)) s: $name"
    else fail "$name: $*"; head -n 12 "$log" | sed 's/^/     /'; fi
}
# same NAME A B: passes when the two texts are equal and not empty.
same() {
    if [ -n "$2" ] && [ "$2" = "$3" ]; then pass; else fail "$1: '$2' and '$3' differ"; fi
}

printf '#include "latephase.h"\nint declarations_only;\n' >"$t/decl.c"
printf '#define LP_IMPLEMENTATION\n#include "latephase.h"\n' >"$t/impl.c"
cat >"$t/use.c" <<'END'
#include "latephase.h"
int main(void)
{
    lp_desc d = lp_desc_default();
    lp_net *net = lp_create(&d);
    int     bad = net == NULL || lp_error(net)[0] != 0;
    lp_destroy(net);
    return bad;
}
END
{ echo '#define LP_IMPLEMENTATION'; cat "$t/use.c"; } >"$t/one.c"
for f in decl impl use one; do cp "$t/$f.c" "$t/$f.cc"; done
printf '#define LP_IMPLEMENTATION\n#include "latephase.h"\nlp_status other(void);\nlp_status other(void) { lp_net *n = lp_create(0); lp_destroy(n); return LP_OK; }\n' >"$t/other.c"
sed -n '/^\/\/>>synopsis/,/^\/\/<<synopsis/p' latephase.h | sed '1d;$d' >"$t/synopsis.c"
cp "$t/synopsis.c" "$t/synopsis.cc"

# ---- no warning, in any dialect and mode
warnings() {
    cc=$1
    has "$cc" || { skip "$cc"; return; }
    for flags in "" -DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD -DLP_NO_THREADS -DLP_REAL=double \
        "-DLP_NO_STDLIB -DLP_NO_THREADS" "-DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD"; do
        level=-O2
        [ "$mode" = full ] || [ -z "$flags" ] || level=-O0
        try "warnings $cc $flags" "$cc" -std=c99 $warn $level $flags -I. -c "$t/impl.c" -o "$t/$cc.o"
    done
    try "declarations $cc" "$cc" -std=c99 $warn -I. -c "$t/decl.c" -o "$t/$cc.o"
    for program in examples/cifar.c examples/demo.c examples/enwik8.c "$t/synopsis.c"; do
        try "warnings $cc $program" "$cc" -std=c99 $warn -O0 -I. "$program" -o "$t/$cc.x" -lpthread
    done
    if [ "$mode" = full ]; then
        try "gnu17 $cc" "$cc" -std=gnu17 $warn -O2 -I. -c "$t/impl.c" -o "$t/$cc.o"
        for f in unit ops algorithm gradcheck bits graphs bench; do
            try "warnings $cc $f" "$cc" -std=c99 -D_POSIX_C_SOURCE=200809L $warn -O2 tests/$f.c -o "$t/$cc.x" -lpthread -lm
        done
    fi
}

cplusplus() {
    cxx=$1
    has "$cxx" || { skip "$cxx"; return; }
    for flags in "" "-DLP_STATIC" "-DLP_NO_STDLIB -DLP_NO_THREADS"; do
        level=-O2
        [ "$mode" = full ] || [ -z "$flags" ] || level=-O0
        try "C++17 $cxx $flags" "$cxx" -std=c++17 $warn $level $flags -I. -c "$t/impl.cc" -o "$t/$cxx.o"
    done
    try "C++17 $cxx synopsis" "$cxx" -std=c++17 -O0 -I. "$t/synopsis.cc" -o "$t/$cxx.x" -lpthread
}

dialects() {
    if has tcc; then
        try "tcc" tcc -Wall -Werror -I. "$t/synopsis.c" -o "$t/tcc"
        try "tcc runs" "$t/tcc"
    else skip "tcc"; fi
    if has clang; then
        try "freestanding 32-bit Windows target, syntax only" clang --target=i686-pc-windows-msvc \
            -fms-compatibility -ffreestanding -fsyntax-only -DLP_NO_STDLIB -DLP_NO_SIMD -I. "$t/impl.c"
    else skip "Windows target (clang)"; fi
}

# ---- one implementation for several files; several private ones; what the linker is asked for
undefined() { nm -u "$t/nm.o" | awk '{print $NF}' | grep -vE "^(_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|$1)\$"; }
linking() {
    try "two files" sh -c "cc -O0 -I. $t/use.c $t/impl.c -o $t/l1 -lpthread && $t/l1"
    try "two files, LP_STATIC" sh -c "cc -O0 -DLP_STATIC -I. $t/one.c $t/other.c -o $t/l2 -lpthread && $t/l2"
    if has g++; then
        try "C++ uses C" sh -c "cc -O0 -I. -c $t/impl.c -o $t/i.o && g++ -I. $t/use.cc $t/i.o -o $t/l3 -lpthread && $t/l3"
    else skip "g++"; fi
    for flags in "" -DLP_NO_SIMD -DLP_NO_TRAINING; do
        for cc in gcc clang; do
            has $cc || continue
            [ "$mode" = full ] || [ -z "$flags" ] || [ "$cc $flags" = "gcc -DLP_NO_TRAINING" ] || continue
            try "LP_NO_STDLIB $cc $flags" $cc -O2 -DLP_NO_STDLIB $flags -I. -c "$t/impl.c" -o "$t/nm.o"
            same "LP_NO_STDLIB symbols $cc $flags" "none $(undefined 'mem(cpy|set|move|cmp)')" "none "
        done
    done
    try "LP_NO_THREADS" cc -O2 -DLP_NO_THREADS -I. -c "$t/impl.c" -o "$t/nm.o"
    same "no libm, stdio, pthread" "none $(undefined 'mem(cpy|set|move|cmp)|malloc|free|madvise')" "none "
    stated=$(sed -n 's/.*This file has \([0-9]*\) lines.*/\1/p' latephase.h) lines=$(wc -l <latephase.h)
    try "the header states its length, $stated, within 2 % of $lines" \
        [ $((stated * 98)) -le $((lines * 100)) -a $((lines * 98)) -le $((stated * 100)) ]
    try "synopsis" sh -c "cc -O2 -I. $t/synopsis.c -o $t/synopsis -lpthread && $t/synopsis"
    same "synopsis learns" "$("$t/synopsis" | grep -cE 'accuracy (9[0-9]|100) %')" 1
}

# ---- the same bits from every compiler, level and machine
bits() {
    want=
    levels="-O0 -O2"
    [ "$mode" = full ] && levels="-O0 -O1 -O2 -O3"
    for cc in gcc clang; do
        has $cc || continue
        for level in $levels; do
            for std in "-std=c99 -D_POSIX_C_SOURCE=200809L" -std=gnu17; do
                case "$mode $cc $level $std" in "quick "*"-O0 -std=gnu17" | "quick clang -O2 -std=c99"*) continue ;; esac
                try "bits: build $cc $level $std" $cc $std $level tests/bits.c -o "$t/bits" -lpthread
                got=$("$t/bits" --small | grep '^bits [a-z]*=')
                same "bits $cc $level $std" "$got" "${want:=$got}"
            done
        done
    done
    for machine in aarch64 s390x; do
        if ! has $machine-linux-gnu-gcc || ! has qemu-$machine; then
            skip "$machine (gcc-$machine-linux-gnu, qemu-user)"
            continue
        fi
        for suite in $suites; do
            [ "$mode" = full ] || [ $suite = bits ] || [ $suite = algorithm ] || continue
            try "$machine: build $suite" $machine-linux-gnu-gcc -O2 -static tests/$suite.c \
                -o "$t/$suite.$machine" -lpthread -lm
            try "$machine: $suite" sh -c "qemu-$machine $t/$suite.$machine --small >$t/$suite.$machine.out"
        done
        same "$machine: bits" "$(grep '^bits [a-z]*=' "$t/bits.$machine.out")" "$want"
    done
}

# ---- small tests under sanitizers and valgrind
suites="unit ops algorithm bits graphs"
memory() {
    san=gcc level=-O0
    [ "$mode" = full ] && level=-O1
    echo 'int main(void) { return 0; }' >"$t/e.c"
    has clang && clang -fsanitize=address,undefined "$t/e.c" -o "$t/e" 2>/dev/null && san=clang
    for suite in $suites; do
        try "sanitizers: build $suite" $san -g $level -fsanitize=address,undefined \
            -fno-sanitize-recover=all tests/$suite.c -o "$t/$suite.san" -lpthread -lm
        try "sanitizers: $suite" "$t/$suite.san" --small
        [ "$mode" = full ] && try "sanitizers, all: $suite" "$t/$suite.san"
        has valgrind || { skip "valgrind $suite"; continue; }
        [ "$mode" = full ] || [ $suite = algorithm ] || continue
        cc -g -O1 tests/$suite.c -o "$t/$suite.vg" -lpthread -lm
        try "valgrind: $suite" valgrind -q --error-exitcode=9 --leak-check=full "$t/$suite.vg" --small
    done
    if [ "$mode" = full ]; then
        try "thread sanitizer: build" $san -g -O1 -fsanitize=thread tests/bits.c -o "$t/bits.tsan" -lpthread -lm
        try "thread sanitizer: bits" "$t/bits.tsan" --small
    fi
}

: >"$t/tally"
{ warnings gcc; cplusplus g++; linking; dialects; } >"$t/lane1" 2>&1 &
{ warnings clang; cplusplus clang++; memory; } >"$t/lane2" 2>&1 &
bits >"$t/lane3" 2>&1 &
wait
cat "$t/lane1" "$t/lane2" "$t/lane3"
count() { grep -c "^$1" "$t/tally"; }
echo "$(count passed) passed, $(count failed) failed, $(count skipped) skipped"
[ "$(count failed)" -eq 0 ]
