#!/bin/sh
# Code of inference alone (size.c: the program, the header and what memory functions it needs) on a
# Cortex-M4F and on x86-64, code and constants without weights; and the bits of the small machine,
# emulated, against those of this one.  Prints the ten largest functions.
set -u
cd "$(dirname "$0")/.." || exit 1
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
small="-Os -DLP_NO_WINOGRAD -ffunction-sections -fdata-sections -ffreestanding -fno-tree-loop-distribute-patterns
    -fno-asynchronous-unwind-tables -fno-stack-protector -nostdlib -Wl,-e,main -Wl,--gc-sections -Wl,--build-id=none"
m4="arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16"

has() { command -v "$1" >/dev/null 2>&1; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $*"; }
# limit NAME PREFIX BYTES COMMAND...: builds size.c; code and constants must take no more.
limit() {
    name=$1 prefix=$2 most=$3
    shift 3
    if ! "$@" tests/size.c -o "$t/x" -lgcc 2>"$t/log"; then
        fail "$name does not build" && head -n 5 "$t/log"
        return
    fi
    bytes=$("${prefix}size" "$t/x" | awk 'NR == 2 {print $1 + $2}')
    echo "$name: $bytes bytes of code and constants, at most $most"
    "${prefix}nm" -S --size-sort -r -t d "$t/x" | awk '$3 ~ /[tTrR]/ && ++n <= 10 {printf "     %6d %s\n", $2, $4}'
    if [ "$bytes" -le "$most" ]; then pass; else fail "$name: $bytes bytes"; fi
}

if has arm-none-eabi-gcc; then limit "Cortex-M4F" arm-none-eabi- 30720 $m4 $small
else skip "Cortex-M4F (gcc-arm-none-eabi, libnewlib-arm-none-eabi)"; fi
if [ "$(uname -m)" = x86_64 ]; then limit "x86-64" "" 36864 cc $small -static -fno-pie
else skip "the size on x86-64"; fi

if has arm-none-eabi-gcc && has qemu-system-arm && [ "$(uname -m)" = x86_64 ]; then
    $m4 -Os -DSIZE_PRINT -DSIZE_VECTORS tests/size.c --specs=rdimon.specs -Wl,--section-start=.vectors=0 \
        -o "$t/m4" 2>"$t/log" || cat "$t/log"
    there=$(timeout 60 qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel "$t/m4" 2>&1)
    isa=LP_ISA_SCALAR
    case $there in *scalar-fma*) isa=LP_ISA_SCALAR_FMA ;; esac
    here=$(cc -O1 -DSIZE_PRINT -DSIZE_SIMD -DSIZE_ISA=$isa tests/size.c -o "$t/x" && "$t/x")
    echo "Cortex-M4F: $there; x86-64: $here"
    case $there in
    "status 0,"*) if [ "$there" = "$here" ]; then pass; else fail "the bits differ"; fi ;;
    *) fail "the emulated Cortex-M4F says: $there" ;;
    esac
else skip "the bits of a Cortex-M4F (qemu-system-arm)"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
