#!/bin/sh
# Nets that build/export wrote as C: as the library computes them (within 1e-5), with weights of int8 as near
# to that as can be, clean in every dialect, small on a Cortex-M4F; and what export refuses.  full: more nets,
# and the first images of CIFAR-10 on an emulated Cortex-M4F.
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
# sees HEADER IMAGES N: what the C alone says of them.
sees() { cc -O2 -DMODEL="\"$1\"" tests/export.c -o "$t/x" && "$t/x" "$2" "$3"; }
# right FILE: how many classes sees had right.
right() { sed -n 's/^right: //p' "$1"; }
# quantised NAME FLOAT.h INT8.h MOST ZEROS: in INT8.h a weight is MOST steps away at most, the largest of a
# channel is 127 of its steps, and the rest is as in FLOAT.h; ZEROS: in each array one channel is zeros.
quantised() {
    try "$1" awk -v most="$4" -v zeros="$5" '
        /^static const .*\[/ {
            name = $0; sub(/\[.*/, "", name); sub(/.* /, "", name)
            if (/signed char/) { n = split($0, number, /[^0-9]+/); channels[name] = number[n - 1] }
            size[name] = 0
            next
        }
        /^}/ { name = "" }
        name { gsub(/[f,]/, " "); for (k = 1; k <= NF; k++) v[FNR == NR, name, size[name]++] = $k }
        END {
            for (a in size) for (i = 0; i < size[a]; i++) {
                w = v[1, a, i]; q = v[0, a, i]
                if (!(a in channels)) { bad += a !~ /_step$/ && w != q; continue }
                step = v[0, a "_step", c = i % channels[a]]
                away = w - step * q; if (away < 0) away = -away
                bad += away > most * step || step <= 0
                if (q < 0) q = -q
                if (q > top[a, c]) top[a, c] = q
            }
            for (a in channels) for (c = 0; c < channels[a]; c++)
                bad += top[a, c] + 0 != (zeros && c == 0 && channels[a] > 1 ? 0 : 127)
            for (a in channels) layers++
            exit bad || !layers
        }' "$2" "$3"
}
# int8 NET: every weight is as near as can be; and where int8 loses nothing, every bit is the same.
int8() {
    try "$1: int8" "$build/export" "$t/$1.st" "$t/$1-int8.h" --int8 \
        && quantised "$1: the nearest step" "$t/$1.h" "$t/$1-int8.h" 0.500001 0
    try "$1: whole steps" "$build/export" "$t/whole.st" "$t/whole.h" \
        && try "$1: whole steps, int8" "$build/export" "$t/whole.st" "$t/whole-int8.h" --int8 \
        && quantised "$1: whole steps and zeros" "$t/whole.h" "$t/whole-int8.h" 0.000001 1
    sees "$t/whole.h" - 8 >"$t/1" && sees "$t/whole-int8.h" - 8 >"$t/log"
    if [ -s "$t/1" ] && cmp -s "$t/1" "$t/log"; then pass; else fail "$1: whole steps are computed otherwise"; fi
}
# scratch NET FLOATS: what the last export says.
scratch() { case $(cat "$t/said") in *" scratch=$2 "*) pass ;; *) fail "$1: scratch $2: $(cat "$t/said")" ;; esac; }

# ---- nets trained for a moment; the file says what they are
try "trainer" cc -O1 -DLIBRARY tests/export.c "$build/impl.o" -o "$t/train" -lpthread -lm
more=
[ "$mode" = full ] && more="wrn-10-2 wrn-16-1 resnet-14" # (gcc reads a weight in 40 us: no wide ones)
for net in wrn-10-1 resnet-8 small table regression $more; do
    try "$net: trained" "$t/train" "$t/$net.st" $net "$t/whole.st"
    try "$net: exported" "$build/export" "$t/$net.st" "$t/$net.h" && cp "$t/log" "$t/said"
    case $net in # two activations; wider WRNs have a third at their beginning, of 16 channels
    wrn-10-1 | resnet-*) scratch $net $((2 * 32 * 32 * 16)) ;;
    wrn-10-2) scratch $net $((2 * 32 * 32 * 32 + 32 * 32 * 16)) ;;
    small) scratch $net $((32 * 32 * 8 + 16 * 16 * 8)) ;;
    table) scratch $net $((20 + 9)) ;;
    esac
    compare "$net" "$t/$net.h" - 8 "$t/$net.st" $net
    int8 $net
done
for cc in "gcc -std=c99" "clang -std=c99" "g++ -std=c++17 -x c++" "clang++ -std=c++17 -x c++"; do
    has "${cc%% *}" || { skip "warnings: ${cc%% *}"; continue; }
    for net in wrn-10-1 table wrn-10-1-int8 table-int8; do
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
    try "resnet-20: int8" "$build/export" "$resnet20" "$t/resnet20-int8.h" --net resnet-20 --int8 \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
        && quantised "resnet-20: the nearest step" "$t/resnet20.h" "$t/resnet20-int8.h" 0.500001 0
    count=100 fewer=1 # full: 0.3 points
    [ "$mode" = full ] && count=1000 fewer=3
    sees "$t/resnet20.h" "$cifar" $count >"$t/1"
    sees "$t/resnet20-int8.h" "$cifar" $count >"$t/log"
    echo "resnet-20: of $count images $(right "$t/1") right, with int8 $(right "$t/log")"
    if [ "$(right "$t/log")" -ge $(($(right "$t/1") - fewer)) ]; then pass; else fail "resnet-20: int8 is less accurate"; fi
    small=resnet20
else
    skip "resnet-20 and CIFAR-10: no $resnet20"
    small=resnet-8
fi

# ---- on a Cortex-M4F: nothing is linked with it, so that there is no library and no double
if has arm-none-eabi-gcc; then for net in $small $small-int8; do
    printf '#include "%s"\nfloat image[MODEL_IMAGE], probs[MODEL_CLASSES], scratch[MODEL_SCRATCH];\n' "$t/$net.h" >"$t/m4.c"
    echo 'int main(void) { model(image, probs, scratch); return probs[0] > 0.5f; }' >>"$t/m4.c"
    if try "Cortex-M4F: $net" $m4 -ffunction-sections -fdata-sections -nostdlib -Wl,-e,main -Wl,--gc-sections "$t/m4.c" \
        -o "$t/m4"; then
        bytes=$(arm-none-eabi-nm -S -t d "$t/m4" | awk '$3 ~ /[tT]/ {n += $2} END {print n}')
        arrays=$(arm-none-eabi-nm -S -t d "$t/m4" | awk '$3 ~ /[rR]/ {n += $2} END {print n}')
        echo "Cortex-M4F: $net: $bytes bytes of code, at most 6144, and $arrays of weights"
        : >"$t/log"
        if [ "$bytes" -gt 0 ] && [ "$bytes" -le 6144 ]; then pass; else fail "code of $bytes bytes"; fi
    fi
done
else skip "Cortex-M4F (gcc-arm-none-eabi, libnewlib-arm-none-eabi)"; fi
if [ "$mode" = full ]; then
    if has arm-none-eabi-gcc && has qemu-system-arm && [ -f "$t/resnet20.h" ]; then for net in resnet20 resnet20-int8; do
        try "emulated: build" $m4 -DVECTORS -DMODEL="\"$t/$net.h\"" -DIMAGES="\"$cifar\"" -DCOUNT='"10"' \
            tests/export.c --specs=rdimon.specs -Wl,--section-start=.vectors=0 -o "$t/m4"
        timeout 300 qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel "$t/m4" >"$t/there" 2>&1
        sees "$t/$net.h" "$cifar" 10 >"$t/here"
        sed "s/^/emulated Cortex-M4F, $net: /" "$t/there"
        cut -d, -f1 "$t/here" >"$t/1" && cut -d, -f1 "$t/there" >"$t/2"
        cp "$t/there" "$t/log"
        if [ "$(grep -c '^image' "$t/there")" -eq 10 ] && cmp -s "$t/1" "$t/2"; then pass
        else fail "the emulated Cortex-M4F sees other classes"; fi
    done
    else skip "an emulated Cortex-M4F (qemu-system-arm, $resnet20)"; fi
fi

# ---- what is refused
convert() { "$build/export" "$@"; }
head -c 5000 "$t/resnet-8.st" >"$t/cut"
refuse "no file" 2 "absent: No such file or directory" convert "$t/absent" "$t/o.h"
refuse "a number for int8" 2 "3 file names: expected two" convert "$t/table.st" "$t/o.h" --int8 4
refuse "int8 with a value" 2 "--int8" convert "$t/table.st" "$t/o.h" --int8=4
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
