#!/bin/sh
# What `make microcontroller` prints: the programs' sizes, memory and answers on an emulated Cortex-M4F,
# and their bits beside those of this machine; the code of inference on x86-64, without weights.  Prints
# the ten largest functions of each.
# usage: tests/microcontroller.sh [BUILD]
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
mkdir -p "$build" && build=$(cd "$build" && pwd)
dir=$build/microcontroller
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0

has() { command -v "$1" >/dev/null 2>&1; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $*"; }
value() { grep '^result' "$t/report" | tr ' ' '\n' | sed -n "s/^$1=//p"; }
# within KEY LEAST MOST
within() {
    v=$(value "$1")
    if [ "$v" -ge "$2" ] 2>/dev/null && [ "$v" -le "$3" ]; then pass; else fail "$1: $v, expected $2..$3"; fi
}
largest() { "$1nm" -S --size-sort -r -t d "$2" | awk '$3 ~ /[tT]/ && ++n <= 10 {printf "     %6d %s\n", $2, $4}'; }

# ---- the chip; of 200 images, 20 are right by chance
if has arm-none-eabi-gcc && has qemu-system-arm; then
    MAKEFLAGS='' nice -n 5 make --no-print-directory B="$build" microcontroller >"$t/report" 2>"$t/log" || { fail "make"; head -n 5 "$t/log"; }
    if grep -q "^[^ ]*\.[ch]:.*warning:" "$t/log"; then fail "warnings"; head -n 5 "$t/log"; else pass; fi
    cat "$t/report"
    largest arm-none-eabi- "$dir/infer.elf"
    within infer_flash 10000 20480
    within infer_weights 5960 5960 # 1,442 weights and 48 statistics
    within infer_ram 10000 24576
    within infer_right 196 200
    within exported_flash 1000 3072
    within exported_ram 5000 16384
    within exported_right 196 200
    for program in tune tune1; do
        within ${program}_before 0 100
        within ${program}_right 190 200
    done
    within tune_memory 50000 120000
    within tune1_memory 20000 60000
    if [ "$(uname -m)" = x86_64 ] && ! grep -qw fma /proc/cpuinfo; then skip "the bits: no fused multiply-add here"
    else
        for program in infer tune tune1; do
            hash=$(value ${program}_hash)
            if [ "${#hash}" -ge 6 ] && [ "$hash" = "$(value ${program}_hash_here)" ]; then pass
            else fail "$program: other bits on the chip"; fi
        done
    fi
    # other cores: the bits of their class, which this machine has with the scalar kernels too
    flags="-mthumb -Os -ffunction-sections -fdata-sections -fno-tree-loop-distribute-patterns"
    other() { # CORE MACHINE FLAGS-HERE FLAGS
        o=$t/$1
        MAKEFLAGS='' nice -n 5 make -s -C examples/microcontroller B="$build" O="$o" \
            CHIP="arm-none-eabi-gcc -mcpu=$1 $4 $flags -I$o" HOST="cc -O1 -DPC $3 -I$o" \
            QEMU="timeout 300 qemu-system-arm -M $2 -display none -monitor none -serial stdio -semihosting" \
            "$o/infer.chip" "$o/infer.host" "$o/tune1.chip" "$o/tune1.host" >"$t/log" 2>&1 || { head -n 5 "$t/log"; }
        for program in infer tune1; do
            chip=$(grep '^hash' "$o/$program.chip") here=$(grep '^hash' "$o/$program.host")
            echo "$1, $program: $chip, here $here"
            if [ -n "$chip" ] && [ "$chip" = "$here" ]; then pass; else fail "$1, $program: other bits"; fi
        done
    }
    other cortex-m3 mps2-an385 -DLP_NO_SIMD ""
    other cortex-m7 mps2-an500 "" "-mfloat-abi=hard -mfpu=fpv5-sp-d16"
else skip "Cortex-M4F (gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-system-arm)"; fi

# ---- x86-64: the same program, scalar, and its memory functions, without a C library
if [ "$(uname -m)" = x86_64 ]; then
    cat >"$t/board.c" <<'END'
#include "board.h"
void board_put(char c) { *(volatile char *)graph = c; }
unsigned long board_stack(void) { return 0; }
void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int c, size_t n)
{
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)c;
    return to;
}
END
    [ -f "$dir/weights.h" ] || make -C examples/microcontroller B="$build" "$dir/weights.h" >/dev/null
    if cc -Os -ffunction-sections -fdata-sections -ffreestanding -fno-tree-loop-distribute-patterns \
        -fno-asynchronous-unwind-tables -fno-stack-protector -fno-pie -static -nostdlib -Wl,-e,main -Wl,--gc-sections \
        -Wl,--build-id=none -DLP_NO_SIMD -I"$dir" -Iexamples/microcontroller examples/microcontroller/infer.c \
        examples/microcontroller/memory.c "$t/board.c" -o "$t/x" 2>"$t/log"; then
        bytes=$(size "$t/x" | awk 'NR == 2 {print $1 + $2 - 5960}')
        echo "x86-64: $bytes bytes of code and constants, at most 27648"
        largest "" "$t/x"
        if [ "$bytes" -gt 10000 ] && [ "$bytes" -le 27648 ]; then pass; else fail "x86-64: $bytes bytes"; fi
    else fail "x86-64 does not build" && head -n 5 "$t/log"; fi
else skip "the size on x86-64"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
