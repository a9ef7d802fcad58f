#!/bin/sh
# The compile and bit matrix: compilers, modes, sanitizers, other machines.
# usage: tests/matrix.sh quick|full     An absent tool is skipped with a line, not passed.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror"

has() { command -v "$1" >/dev/null 2>&1; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
# try NAME COMMAND...: passes when the command does.
try() {
    name=$1
    shift
    if "$@" >"$t/log" 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $name: $*"; head -n 12 "$t/log" | sed 's/^/     /'; fi
}
# same NAME A B: passes when the two texts are equal and not empty.
same() {
    if [ -n "$2" ] && [ "$2" = "$3" ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $1: '$2' and '$3' differ"; fi
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
for cc in gcc clang; do
    has $cc || { skip "$cc"; continue; }
    for flags in "" -DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD -DLP_NO_THREADS -DLP_REAL=double \
        "-DLP_NO_STDLIB -DLP_NO_THREADS" "-DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD"; do
        try "warnings $cc $flags" $cc -std=c99 $warn -O2 $flags -I. -c "$t/impl.c" -o "$t/x.o"
    done
    for flags in "" -DLP_STATIC; do
        try "declarations $cc $flags" $cc -std=c99 $warn $flags -I. -c "$t/decl.c" -o "$t/x.o"
    done
    for program in examples/cifar.c examples/demo.c "$t/synopsis.c"; do
        try "warnings $cc $program" $cc -std=c99 $warn -O2 -I. "$program" -o "$t/x" -lpthread
    done
    [ "$mode" = full ] && try "gnu17 $cc" $cc -std=gnu17 $warn -O2 -I. -c "$t/impl.c" -o "$t/x.o"
done
for cxx in g++ clang++; do
    has $cxx || { skip "$cxx"; continue; }
    for flags in "" "-DLP_STATIC" "-DLP_NO_STDLIB -DLP_NO_THREADS"; do
        try "C++17 $cxx $flags" $cxx -std=c++17 $warn -O1 $flags -I. -c "$t/impl.cc" -o "$t/x.o"
    done
    try "C++17 $cxx synopsis" $cxx -std=c++17 -O2 -I. "$t/synopsis.cc" -o "$t/x" -lpthread
done
if has tcc; then
    try "tcc" tcc -Wall -Werror -I. "$t/synopsis.c" -o "$t/tcc"
    try "tcc runs" "$t/tcc"
else skip "tcc"; fi
if has clang; then
    printf '#define LP_IMPLEMENTATION\n#define LP_NO_SIMD\n#include "latephase.h"\n' >"$t/freestanding.c"
    try "freestanding, 32-bit Windows target, syntax" clang --target=i686-pc-windows-msvc -fms-compatibility \
        -ffreestanding -fsyntax-only -DLP_NO_STDLIB -DLP_NO_THREADS -I. -Itests/freestanding "$t/freestanding.c"
fi

# ---- one implementation for several files; several private ones
try "two files" sh -c "cc -O1 -I. $t/use.c $t/impl.c -o $t/x -lpthread && $t/x"
try "two files, LP_STATIC" sh -c "cc -O1 -DLP_STATIC -I. $t/one.c $t/other.c -o $t/x -lpthread && $t/x"
if has g++; then
    try "C++ uses C" sh -c "cc -O1 -I. -c $t/impl.c -o $t/i.o && g++ -O1 -I. $t/use.cc $t/i.o -o $t/x -lpthread && $t/x"
fi

# ---- symbols that the object asks the linker for
undefined() { nm -u "$t/x.o" | awk '{print $NF}' | grep -vE "^(_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|$1)\$"; }
for flags in "" -DLP_NO_SIMD -DLP_NO_TRAINING; do
    for cc in gcc clang; do
        has $cc || continue
        $cc -O2 -DLP_NO_STDLIB -DLP_NO_THREADS $flags -I. -c "$t/impl.c" -o "$t/x.o"
        same "LP_NO_STDLIB symbols $cc $flags" "none $(undefined 'mem(cpy|set|move|cmp)|strlen|strcmp')" "none "
    done
done
cc -O2 -DLP_NO_THREADS -I. -c "$t/impl.c" -o "$t/x.o"
same "no libm, stdio, pthread" "none $(undefined 'mem(cpy|set|move|cmp)|strlen|strcmp|malloc|free')" "none "

# ---- the header's own example
try "synopsis" sh -c "cc -O2 -I. $t/synopsis.c -o $t/synopsis -lpthread && $t/synopsis"
same "synopsis learns" "$("$t/synopsis" | grep -cE 'accuracy (9[0-9]|100) %')" 1

# ---- the same bits from every compiler and level
want=
levels="-O2"
[ "$mode" = full ] && levels="-O0 -O1 -O2 -O3"
for cc in gcc clang; do
    has $cc || continue
    for level in $levels; do
        for std in "-std=c99 -D_POSIX_C_SOURCE=200809L" -std=gnu17; do
            $cc $std $level tests/bits.c -o "$t/bits" -lpthread || continue
            got=$("$t/bits" --small | grep '^bits [a-z]*=')
            same "bits $cc $level $std" "$got" "${want:=$got}"
        done
    done
done

# ---- small tests under sanitizers, valgrind, and on other machines
suites="unit ops algorithm bits"
for suite in $suites; do
    small="$t/$suite.small"
    if has clang && echo 'int main(void){return 0;}' >"$t/e.c" \
        && clang -fsanitize=address "$t/e.c" -o "$t/e" 2>/dev/null; then san=clang; else san=gcc; fi
    try "sanitizers: build $suite" $san -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
        tests/$suite.c -o "$small" -lpthread -lm
    try "sanitizers: $suite" "$small" --small
    [ "$mode" = full ] && try "sanitizers, all: $suite" "$small"
    if has valgrind && { [ "$mode" = full ] || [ $suite = algorithm ]; }; then
        cc -g -O1 tests/$suite.c -o "$small" -lpthread -lm
        try "valgrind: $suite" valgrind -q --error-exitcode=9 --leak-check=full "$small" --small
    elif ! has valgrind; then skip "valgrind $suite"; fi
done
for machine in aarch64 s390x; do
    if ! has $machine-linux-gnu-gcc || ! has qemu-$machine; then
        skip "$machine (gcc-$machine-linux-gnu, qemu-user)"
        continue
    fi
    for suite in $suites; do
        [ "$mode" = full ] || [ $suite = bits ] || [ $suite = algorithm ] || continue
        try "$machine: build $suite" $machine-linux-gnu-gcc -O2 -static tests/$suite.c -o "$t/$suite.$machine" -lpthread -lm
        try "$machine: $suite" qemu-$machine "$t/$suite.$machine" --small
    done
    [ -n "$want" ] && same "$machine: bits" "$(qemu-$machine "$t/bits.$machine" --small | grep '^bits [a-z]*=')" "$want"
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
