#!/bin/sh
# Nets that build/export wrote as C: as the library computes them (within 1e-5), clean in every
# dialect, small on a Cortex-M4F; and what export refuses.  full: more nets, and the first images of
# CIFAR-10 on an emulated Cortex-M4F.
# usage: tests/export.sh quick|full [BUILD]     SHARED: directory of real data (../shared/data)
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick} build=${2:-build} shared=${SHARED:-../shared/data}
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror"
m4="arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard -Os"
cifar=$shared/cifar10-mini/test_batch.bin resnet20=$shared/resnet20-cifar10.safetensors
passed=0 failed=0 skipped=0

has() { command -v "$1" >/dev/null 2>&1; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $1"; [ ! -s "$t/log" ] || head -n 5 "$t/log" | sed 's/^/     /'; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
# try NAME COMMAND...: passes when the command does.
try() {
    name=$1
    shift
    if "$@" >"$t/log" 2>&1; then pass; else fail "$name"; return 1; fi
}
# refuse NAME CODE WORDS COMMAND...: exit code, one line on stderr with these words, no result.
refuse() {
    name=$1 code=$2 words=$3
    shift 3
    "$@" >"$t/out" 2>"$t/log"
    got=$?
    if [ $got -eq "$code" ] && [ "$(wc -l <"$t/log")" -eq 1 ] && grep -qF -e "$words" "$t/log" \
        && [ ! -s "$t/out" ]; then pass; else fail "$name: code $got, expected $code and: $words"; fi
}
# compare NAME HEADER IMAGES N MODEL NET: the C and the library say the same.
compare() {
    try "$1: build" cc -O1 -DLIBRARY -DMODEL="\"$2\"" tests/export.c "$build/impl.o" -o "$t/x" -lpthread -lm \
        && try "$1: as the library" "$t/x" "$3" "$4" "$5" "$6" && echo "$1: $(cat "$t/log")"
}
# scratch NET FLOATS: what the last export says.
scratch() { case $(cat "$t/said") in *" scratch=$2 "*) pass ;; *) fail "$1: scratch $2: $(cat "$t/said")" ;; esac; }

# ---- nets trained for a moment; the file says what they are
try "trainer" cc -O1 -DLIBRARY tests/export.c "$build/impl.o" -o "$t/train" -lpthread -lm
more=
[ "$mode" = full ] && more="wrn-10-2 wrn-16-4 resnet-14"
for net in wrn-10-1 resnet-8 small table regression $more; do
    try "$net: trained" "$t/train" "$t/$net.st" $net
    try "$net: exported" "$build/export" "$t/$net.st" "$t/$net.h" && cp "$t/log" "$t/said"
    case $net in # two activations; wider WRNs have a third at their beginning, of 16 channels
    wrn-10-1 | resnet-*) scratch $net $((2 * 32 * 32 * 16)) ;;
    wrn-10-2) scratch $net $((2 * 32 * 32 * 32 + 32 * 32 * 16)) ;;
    small) scratch $net $((32 * 32 * 8 + 16 * 16 * 8)) ;;
    table) scratch $net $((20 + 9)) ;;
    esac
    compare "$net" "$t/$net.h" - 8 "$t/$net.st" $net
done
for cc in "gcc -std=c99" "clang -std=c99" "g++ -std=c++17 -x c++" "clang++ -std=c++17 -x c++"; do
    has "${cc%% *}" || { skip "warnings: ${cc%% *}"; continue; }
    for net in wrn-10-1 table; do
        printf '#include "%s"\nvoid f(const float *, float *, float *);\n' "$t/$net.h" >"$t/one.c"
        echo 'void f(const float *i, float *p, float *s) { model(i, p, s); }' >>"$t/one.c"
        try "warnings: $net, $cc" $cc $warn -Wdouble-promotion -fsyntax-only "$t/one.c"
    done
done

# ---- a pretrained net on real images
if [ -f "$resnet20" ] && [ -f "$cifar" ]; then
    try "resnet-20: exported" "$build/export" "$resnet20" "$t/resnet20.h" --net resnet-20 \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 && cp "$t/log" "$t/said"
    scratch resnet-20 $((2 * 32 * 32 * 16))
    compare "resnet-20, CIFAR-10" "$t/resnet20.h" "$cifar" 100 "$resnet20" resnet-20
    compare "wrn-10-1, CIFAR-10" "$t/wrn-10-1.h" "$cifar" 100 "$t/wrn-10-1.st" wrn-10-1
    small=$t/resnet20.h
else
    skip "resnet-20 and CIFAR-10: no $resnet20"
    small=$t/resnet-8.h
fi

# ---- on a Cortex-M4F: nothing is linked with it, so that there is no library and no double
if has arm-none-eabi-gcc; then
    printf '#include "%s"\nfloat image[MODEL_IMAGE], probs[MODEL_CLASSES], scratch[MODEL_SCRATCH];\n' "$small" >"$t/m4.c"
    echo 'int main(void) { model(image, probs, scratch); return probs[0] > 0.5f; }' >>"$t/m4.c"
    if try "Cortex-M4F" $m4 -ffunction-sections -fdata-sections -nostdlib -Wl,-e,main -Wl,--gc-sections "$t/m4.c" \
        -o "$t/m4"; then
        bytes=$(arm-none-eabi-nm -S -t d "$t/m4" | awk '$3 ~ /[tT]/ {n += $2} END {print n}')
        echo "Cortex-M4F: $bytes bytes of code, at most 6144"
        : >"$t/log"
        if [ "$bytes" -gt 0 ] && [ "$bytes" -le 6144 ]; then pass; else fail "code of $bytes bytes"; fi
    fi
else skip "Cortex-M4F (gcc-arm-none-eabi, libnewlib-arm-none-eabi)"; fi
if [ "$mode" = full ]; then
    if has arm-none-eabi-gcc && has qemu-system-arm && [ -f "$t/resnet20.h" ]; then
        try "emulated: build" $m4 -DVECTORS -DMODEL="\"$t/resnet20.h\"" -DIMAGES="\"$cifar\"" -DCOUNT='"10"' \
            tests/export.c --specs=rdimon.specs -Wl,--section-start=.vectors=0 -o "$t/m4"
        timeout 300 qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel "$t/m4" >"$t/there" 2>&1
        cc -O1 -DMODEL="\"$t/resnet20.h\"" tests/export.c -o "$t/x" && "$t/x" "$cifar" 10 >"$t/here"
        sed 's/^/emulated Cortex-M4F: /' "$t/there"
        cut -d, -f1 "$t/here" >"$t/1" && cut -d, -f1 "$t/there" >"$t/2"
        cp "$t/there" "$t/log"
        if [ "$(grep -c '^image' "$t/there")" -eq 10 ] && cmp -s "$t/1" "$t/2"; then pass
        else fail "the emulated Cortex-M4F sees other classes"; fi
    else skip "an emulated Cortex-M4F (qemu-system-arm, $resnet20)"; fi
fi

# ---- what is refused
convert() { "$build/export" "$@"; }
head -c 5000 "$t/resnet-8.st" >"$t/cut"
refuse "no file" 2 "absent: No such file or directory" convert "$t/absent" "$t/o.h"
refuse "no output" 2 "1 file names: expected two" convert "$t/table.st"
refuse "half a file" 2 "$t/cut: " convert "$t/cut" "$t/o.h"
refuse "another net" 2 "resnet-8.st: no tensor \"conv0.weight\"" convert "$t/resnet-8.st" "$t/o.h" --net wrn-10-1
refuse "another depth" 2 "layer1.1.conv1.weight" convert "$t/resnet-8.st" "$t/o.h" --net resnet-14
refuse "another width" 2 "[16,16,3,3]" convert "$t/wrn-10-1.st" "$t/o.h" --net wrn-10-2
refuse "an unknown net" 2 "--net lenet: expected wrn-D-W" convert "$t/resnet-8.st" "$t/o.h" --net lenet
refuse "a table of images" 2 "no tensor \"fc1.weight\"" convert "$t/resnet-8.st" "$t/o.h" --net table
refuse "two means" 2 "--mean '1,2': expected 3 numbers" convert "$t/resnet-8.st" "$t/o.h" --mean 1,2
refuse "words for means" 2 "--mean '1,x,2': expected 3 numbers" convert "$t/resnet-8.st" "$t/o.h" --mean 1,x,2
refuse "a deviation of 0" 2 "expected 3 numbers above 0" convert "$t/resnet-8.st" "$t/o.h" --std 1,0,1
refuse "mean alone" 2 "--mean and --std: expected both" convert "$t/table.st" "$t/o.h" --mean 1,2,3,4,5,6,7
if [ -f "$resnet20" ]; then
    refuse "no net said" 2 "does not say which net it is" convert "$resnet20" "$t/o.h"
else skip "a file that does not say which net it is"; fi
refuse "no directory" 1 "absent/o.h.part: cannot be written" convert "$t/table.st" "$t/absent/o.h"
echo before >"$t/full.h"
refuse "a full disk" 1 "full.h: cannot be written" sh -c "trap '' XFSZ; ulimit -f 20; $build/export $t/resnet-8.st $t/full.h"
: >"$t/log"
if [ "$(cat "$t/full.h")" = before ] && [ ! -e "$t/full.h.part" ]; then pass; else fail "the file before is gone"; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
