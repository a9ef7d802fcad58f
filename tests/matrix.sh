#!/bin/sh
# The compile and bit matrix: compilers, modes, machines, sanitizers.
# usage: tests/matrix.sh quick|full [BUILD [SECTION...]]
#   BUILD    where make has left impl.o and bits (build)
#   SECTION  warnings linking bits machines windows memory (all)
# An absent tool is skipped with a line, not passed.  TEST_TIMES=1 prints the CPU seconds of each step.
set -u
cd "$(dirname "$0")/.." || exit 1
mode=${1:-quick} build=${2:-build}
[ $# -gt 2 ] && shift 2 || set -- warnings linking bits machines windows memory
[ -f "$build/impl.o" ] && [ -x "$build/bits" ] || { echo "first: make $build/impl.o $build/bits"; exit 2; }
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
warn="-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror"
passed=0 failed=0 skipped=0

has() { command -v "$1" >/dev/null 2>&1; }
full() { [ "$mode" = full ]; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $1"; }
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }
# try NAME COMMAND...: passes when the command does.
try() {
    name=$1
    shift
    if ("$@" >"$t/log" 2>&1; code=$?; times >"$t/times"; exit $code); then pass
    else fail "$name: $*"; head -n 12 "$t/log" | sed 's/^/     /'; fi
    [ -z "${TEST_TIMES:-}" ] || echo "   $(tail -n 1 "$t/times") $name"
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

# ---- no warning, in any dialect and mode.  gcc finds some only when it optimises, clang none: quick
# compiles once with gcc -O2 and lets clang read all modes.
c_warnings() {
    cc=$1
    has "$cc" || { skip "$cc"; return; }
    for flags in "" -DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD -DLP_NO_THREADS -DLP_REAL=double \
        "-DLP_NO_STDLIB -DLP_NO_THREADS" "-DLP_STATIC -DLP_NO_TRAINING -DLP_NO_SIMD -DLP_NO_MESSAGES"; do
        as="-O2 -c"
        full || [ "$cc" = gcc ] || as=-fsyntax-only
        full || [ "$cc$flags" != gcc-DLP_NO_TRAINING ] || as="-O0 -c"
        full || [ "$cc" = clang ] || [ -z "$flags" ] || [ "$flags" = -DLP_NO_TRAINING ] || continue
        try "warnings $cc $flags" "$cc" -std=c99 $warn $as $flags -I. "$t/impl.c" -o "$t/w.o"
    done
    try "declarations $cc" "$cc" -std=c99 $warn -I. -c "$t/decl.c" -o "$t/w.o"
    full || [ "$cc" = clang ] || return
    for program in examples/*.c examples/web/web.c "$t/synopsis.c"; do
        try "warnings $cc $program" "$cc" -std=c99 $warn -fsyntax-only -I. -I"$build" "$program"
    done
    for f in impl $suites corrupt gradcheck bits graphs bench images fuzz; do
        try "warnings $cc tests/$f.c" "$cc" -std=c99 -D_POSIX_C_SOURCE=200809L $warn -fsyntax-only tests/$f.c
    done
    try "warnings $cc tests/export.c" "$cc" -std=c99 $warn -DLIBRARY -fsyntax-only tests/export.c
    full || return
    try "gnu17 $cc" "$cc" -std=gnu17 $warn -O2 -I. -c "$t/impl.c" -o "$t/w.o"
    for f in $suites corrupt gradcheck bits graphs bench images fuzz; do
        try "warnings $cc -O2 tests/$f.c" "$cc" -std=c99 -D_POSIX_C_SOURCE=200809L $warn -O2 -c tests/$f.c -o "$t/w.o"
    done
}

cplusplus() {
    cxx=$1
    has "$cxx" || { skip "$cxx"; return; }
    for flags in "" "-DLP_STATIC" "-DLP_NO_STDLIB -DLP_NO_THREADS"; do
        as="-O2 -c"
        full || as="-O0 -c"
        full || [ "$cxx" = g++ ] || as=-fsyntax-only
        full || [ "$cxx" = clang++ ] || [ -z "$flags" ] || continue
        try "C++17 $cxx $flags" "$cxx" -std=c++17 $warn $as $flags -I. "$t/impl.cc" -o "$t/w.o"
    done
    full || [ "$cxx" = g++ ] || return
    try "C++17 $cxx synopsis" "$cxx" -std=c++17 -O0 -I. "$t/synopsis.cc" -o "$t/w.x" -lpthread
}

warnings() { c_warnings gcc; c_warnings clang; cplusplus g++; cplusplus clang++; }

# ---- one implementation for several files; several private ones; what the linker is asked for
undefined() { nm -u "$t/nm.o" | awk '{print $NF}' | grep -vE "^(_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|$1)\$"; }
linking() {
    try "library" cc -O0 -I. -c "$t/impl.c" -o "$t/i.o"
    try "two files" sh -c "cc -I. $t/use.c $t/i.o -o $t/l1 -lpthread && $t/l1"
    try "LP_REAL in one of two files: refused" sh -c \
        "LC_ALL=C cc -DLP_REAL=double -I. $t/use.c $t/i.o -o $t/l1 -lpthread 2>&1 | grep -q 'undefined.*lp_create_real'"
    if has g++; then try "C++ uses C" sh -c "g++ -I. $t/use.cc $t/i.o -o $t/l3 -lpthread && $t/l3"
    else skip "g++"; fi
    full && try "two files, LP_STATIC" \
        sh -c "cc -O0 -DLP_STATIC -I. $t/one.c $t/other.c -o $t/l2 -lpthread && $t/l2"
    for flags in "" -DLP_NO_SIMD -DLP_NO_TRAINING; do
        for cc in gcc clang; do
            has $cc || continue
            full || [ "$cc$flags" = gcc ] || [ "$cc$flags" = clang-DLP_NO_TRAINING ] || continue
            try "LP_NO_STDLIB $cc $flags" $cc -O2 -DLP_NO_STDLIB $flags -I. -c "$t/impl.c" -o "$t/nm.o"
            same "LP_NO_STDLIB symbols $cc $flags" "none $(undefined 'mem(cpy|set|move|cmp)')" "none "
        done
    done
    level=-O0
    full && level=-O2
    try "LP_NO_THREADS" cc $level -DLP_NO_THREADS -DLP_NO_STDIO -I. -c "$t/impl.c" -o "$t/nm.o"
    same "no libm, stdio, pthread" "none $(undefined 'mem(cpy|set|move|cmp)|malloc|free|madvise')" "none "
    try "files" cc $level -DLP_NO_THREADS -I. -c "$t/impl.c" -o "$t/nm.o"
    same "no libm, pthread" "none $(undefined 'mem(cpy|set|move|cmp)|malloc|free|madvise|f(open|close|read|write|seek|tell|flush)|clearerr|remove|rename|stat|__xstat|strerror|__errno_location')" "none "
    try "synopsis" sh -c "cc $level -I. $t/synopsis.c -o $t/synopsis -lpthread && $t/synopsis"
    same "synopsis learns" "$("$t/synopsis" | grep -cE 'accuracy (9[0-9]|100) %')" 1
    if has tcc; then
        try "tcc" tcc -Wall -Werror -I. "$t/synopsis.c" -o "$t/tcc"
        try "tcc runs" "$t/tcc"
    else skip "tcc"; fi
    if has clang; then
        try "freestanding 32-bit Windows target, syntax only" clang --target=i686-pc-windows-msvc \
            -fms-compatibility -ffreestanding -fsyntax-only -DLP_NO_STDLIB -DLP_NO_SIMD -I. "$t/impl.c"
        for target in x86_64-pc-windows-msvc x86_64-unknown-windows; do
            for lang in "c -std=c99" "c++ -std=c++17"; do
                try "$target $lang, with vectors" clang --target=$target -x $lang -fms-compatibility \
                    -ffreestanding -O0 -Wall -Wextra -Werror -DLP_NO_STDLIB -I. -c "$t/impl.c" -o "$t/w.o"
            done
        done
    else skip "Windows target (clang)"; fi
    if has arm-none-eabi-gcc; then
        for cpu in cortex-m0 "cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard"; do
            try "$cpu" arm-none-eabi-gcc -mthumb -mcpu=$cpu -std=c99 -O1 -Wall -Wextra -Werror -DLP_NO_STDLIB \
                -DLP_NO_THREADS -I. -c "$t/impl.c" -o "$t/w.o"
            same "$cpu: nothing atomic" "none $(arm-none-eabi-nm -u "$t/w.o" | grep atomic)" "none "
        done
    else skip "arm-none-eabi-gcc"; fi
}

# ---- the same bits from every compiler and level: those of build/bits, cc -O2
bits_of() { "$@" | grep '^bits [a-z]*='; }
want=$(bits_of "$build/bits" --small)
bits() {
    for cc in gcc clang; do
        has $cc || { skip "bits: $cc"; continue; }
        for level in -O0 -O1 -O2 -O3; do
            for std in "-std=c99 -D_POSIX_C_SOURCE=200809L" -std=gnu17; do
                full || case "$cc $level $std" in "gcc -O0 -std=c99"* | "clang -O2 -std=gnu17") ;; *) continue ;; esac
                try "bits: build $cc $level $std" $cc $std $level tests/bits.c -o "$t/bits" -lpthread
                same "bits $cc $level $std" "$(bits_of "$t/bits" --small)" "$want"
            done
        done
        # all sets of kernels, where the compiler may use what this machine has in each (see lpi_branch)
        try "$cc -march=native: build ops" $cc -O2 -march=native tests/ops.c tests/impl.c -o "$t/ops" -lpthread -lm
        try "$cc -march=native: ops" "$t/ops"
    done
}

# ---- and from other machines: quick the bits of two; full those of all, as a table for the README, and
# the other tests on two of them
suites="unit ops algorithm faults files"
# of_class CLASS: of bits, those of the best set (fma) or those of scalar (multiply-add), under one name.
of_class() { if [ "$1" = fma ]; then grep -v 'scalar='; else grep 'scalar=' | sed 's/scalar=/=/'; fi; }
# row MACHINE COMPILER HOW SET CLASS HASH: a line of the table.
row() { echo "| $1 | $2 | $3 | $4 | $5 | $6 |" >>"$t/table"; }
version() { echo "$1" $("$1" --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1) | sed 's/.*-linux-gnu[a-z]*-//'; }
# machine NAME SET RUN COMMAND...: bits.c, built by COMMAND and run by RUN (here, or an emulator), chooses
# SET (any: one with fused multiply-add) and has the bits of its class.
machine() {
    who=$1 set=$2 run=$3 how="$3" class=fma
    shift 3
    case $set in scalar | vector) class=multiply-add ;; esac
    case $run in qemu*) how=QEMU ;; node*) how="node $(node --version | tr -d v)" ;; here) run='' how=natively ;; esac
    for tool in "$1" ${run%% *}; do has "$tool" || { skip "$who ($tool)"; return; }; done
    try "$who: build bits" "$@" tests/bits.c -o "$t/bits.m" -lpthread -lm
    try "$who: bits" sh -c "$run $t/bits.m --small >$t/bits.out"
    got=$(bits_of cat "$t/bits.out" | of_class fma)
    same "$who: same bits" "$got" "$(echo "$want" | of_class $class)"
    chosen=$(sed -n 's/^set //p' "$t/bits.out")
    [ "$set" = any ] || same "$who: the set" "$chosen" "$set"
    row "$who" "$(version "$1")" "$how" "$chosen" "$class" "$(echo "$got" | sed -n 's/bits wrn=//p')"
}
wasm32() {
    if ! has wasm-ld || ! clang --target=wasm32-wasi "$t/e.c" -o "$t/e.wasm" 2>/dev/null; then
        skip "wasm32 (node, clang, lld, wasi-libc, libclang-rt-14-dev-wasm32)"
        return
    fi
    set -- "node --no-warnings tests/wasi.mjs" clang --target=wasm32-wasi -O1 -DLP_NO_THREADS
    machine "wasm32, SIMD" vector "$@" -msimd128
    ! full || machine wasm32 scalar "$@"
}
# Where floats have more digits than they should, a message says that the bits differ.
more_digits() {
    has "$1" || { skip "$1"; return; }
    same "$*: a message" "$("$@" -I. -c "$t/impl.c" -o "$t/w.o" 2>&1 | grep -c 'message.*bits are not')" 1
}
machines() {
    static="-O2 -static"
    echo 'int main(void) { return 0; }' >"$t/e.c"
    if ! full; then
        wasm32
        machine aarch64 vector-fma qemu-aarch64 aarch64-linux-gnu-gcc $static
        return
    fi
    if [ "$(uname -m)" = x86_64 ]; then
        for cc in gcc clang "g++ -std=c++17 -x c++"; do machine x86-64 any here $cc -O2; done
        machine x86-64 scalar here tcc
        machine "x86-64 without FMA" vector "qemu-x86_64 -cpu Nehalem" gcc $static
    fi
    machine "i686, SSE2" vector "qemu-i386 -cpu n270" i686-linux-gnu-gcc $static -msse2 -mfpmath=sse
    machine aarch64 vector-fma qemu-aarch64 aarch64-linux-gnu-gcc $static
    machine "ppc64le, VSX" vector-fma qemu-ppc64le powerpc64le-linux-gnu-gcc $static
    machine "s390x, z14" vector-fma qemu-s390x s390x-linux-gnu-gcc $static -march=z14
    machine s390x scalar-fma qemu-s390x s390x-linux-gnu-gcc $static
    machine riscv64 scalar-fma qemu-riscv64 riscv64-linux-gnu-gcc $static
    machine "armv7, VFPv4 and NEON" scalar-fma qemu-arm arm-linux-gnueabihf-gcc $static -mfpu=neon-vfpv4
    machine "armv7, VFPv3" scalar qemu-arm arm-linux-gnueabihf-gcc $static
    machine "armv5, soft floats" scalar qemu-arm arm-linux-gnueabi-gcc $static
    machine "mips, big-endian" scalar qemu-mips mips-linux-gnu-gcc $static
    wasm32
    more_digits s390x-linux-gnu-gcc -std=c99
    more_digits i686-linux-gnu-gcc -std=gnu17
    for machine in aarch64 s390x; do
        has $machine-linux-gnu-gcc && has qemu-$machine || continue
        cc="$machine-linux-gnu-gcc $static"
        try "$machine: build the library" $cc -c tests/impl.c -o "$t/m.o"
        for suite in $suites; do
            try "$machine: build $suite" $cc tests/$suite.c "$t/m.o" -o "$t/$suite.m" -lpthread -lm
            try "$machine: $suite" qemu-$machine "$t/$suite.m" --small
        done
    done
    printf '| machine | compiler | run | set | class | hash |\n|---|---|---|---|---|---|\n'
    cat "$t/table"
}

# ---- Windows.  <windows.h> before, after: no name may meet another one.  clang-cl, and what cl would
# compile, with the declarations of sdk.h.
windows_headers() {
    mkdir "$t/sdk"
    printf '#include "%s/tests/sdk.h"\n' "$PWD" >"$t/sdk/stdint.h"
    for h in stdlib string stdio errno process malloc intrin; do cp "$t/sdk/stdint.h" "$t/sdk/$h.h"; done
    { echo '#define SDK_WINDOWS'; cat "$t/sdk/stdint.h"; } >"$t/sdk/windows.h"
    { echo '#include <windows.h>'; cat "$t/impl.c"; } >"$t/before.c"
    { cat "$t/impl.c"; echo '#include <windows.h>'; } >"$t/after.c"
    mingw=x86_64-w64-mingw32
    for f in before after; do
        for cc in "$mingw-gcc -std=c99" "$mingw-gcc -std=c99 -D_WIN32_WINNT=0x0501" "$mingw-g++ -x c++ -std=c++17" \
            "clang --target=x86_64-w64-windows-gnu -std=c99"; do
            has "${cc%% *}" && has $mingw-gcc || { skip "$cc"; continue; }
            full || case "$f $cc" in "before "*c99 | "after "*17) ;; *) continue ;; esac
            try "windows.h $f, $cc" $cc $warn -fsyntax-only -I. "$t/$f.c"
        done
        has clang || { skip "clang-cl"; continue; }
        for lang in "/TC" "/TP /std:c++17"; do
            cl="clang --driver-mode=cl --target=x86_64-pc-windows-msvc $lang /W4 /WX /Zs -I$t/sdk -I."
            try "windows.h $f, clang-cl $lang" $cl "$t/$f.c"
            try "windows.h $f, as cl $lang" $cl -U__clang__ -Wno-unknown-pragmas -Wno-unused -Wno-unused-parameter "$t/$f.c"
        done
    done
}
# Wine's directory is made of links: it starts in a second, where it takes a quarter of a minute to fill one.
start_wine() {
    export WINEPREFIX="$t/wine" WINEDEBUG=-all TMPDIR="$t"
    mkdir -p "$WINEPREFIX/drive_c/windows"
    for dlls in /usr/lib/*/wine/x86_64-windows; do
        [ -d "$dlls" ] || continue
        echo disable >"$WINEPREFIX/.update-timestamp"
        ln -s "$dlls" "$WINEPREFIX/drive_c/windows/system32"
    done
}
# windows_bits NAME: of $t/bits.exe, which makes as many comparisons as the one here: all kernels ran.
windows_bits() {
    try "$1" sh -c "timeout 300 wine $t/bits.exe --small >$t/bits.out"
    same "$1: same bits" "$(tr -d '\r' <"$t/bits.out" | grep '^bits')" "$("$build/bits" --small | grep '^bits')"
}
# gcc takes a vector that is an argument or a result for aligned, and on Windows it is not (its bug 54412).
# Debian's gcc never makes use of that: this turns what it wrote (-dP) into what others write.  S32 A256 is
# memory of 32 bytes, taken to be aligned to 256 bits.
aligned_moves() {
    awk '/^ #\((insn|call_insn|jump_insn)/ { note = "" }
         /^ #/ { note = note $0; next }
         /^\tvmov(up|dqu).*%[yz]mm/ && note ~ (/%zmm/ ? "S64 A512" : "S32 A(256|512)") {
             sub(/vmovup/, "vmovap"); sub(/vmovdqu(8|16)?/, /vmovdqu(8|16)/ ? "vmovdqa32" : "vmovdqa") }
         { print }' "$1"
}
windows_runs() {
    gcc=x86_64-w64-mingw32-gcc
    has $gcc && has wine || { skip "MinGW (gcc-mingw-w64-x86-64, wine)"; return; }
    start_wine
    for cc in $gcc "clang --target=x86_64-w64-windows-gnu"; do
        has "${cc%% *}" || { skip "$cc"; continue; }
        for level in -O0 -O1 -O2 -O3; do
            full || [ "$cc $level" = "$gcc -O2" ] || continue
            try "build bits $cc $level" sh -c "$cc $level -c tests/bits.c -o $t/w.o && $gcc $t/w.o -o $t/bits.exe"
            windows_bits "$cc $level"
        done
    done
    full || return
    for level in -O0 -O2 -Os; do
        try "aligned $level: compile" $gcc $level -dP -S tests/bits.c -o "$t/bits.s"
        aligned_moves "$t/bits.s" >"$t/aligned.s"
        try "aligned $level: there are some" grep -q 'vmova.*%[yz]mm' "$t/aligned.s"
        try "aligned $level: link" $gcc "$t/aligned.s" -o "$t/bits.exe"
        windows_bits "aligned $level"
    done
    try "MinGW: build the library" $gcc -O2 -c tests/impl.c -o "$t/m.o"
    for suite in unit ops algorithm faults; do
        try "MinGW: build $suite" $gcc -O2 tests/$suite.c "$t/m.o" -o "$t/suite.exe"
        try "MinGW: $suite" timeout 300 wine "$t/suite.exe" --small
    done
    for program in examples/*.c; do
        [ "$program" != examples/library.c ] || continue # no program: the others hold it here
        try "MinGW: $program" $gcc -O0 -Wall -Wextra -Werror -I"$build" "$program" -o "$t/program.exe"
    done
    try "MinGW: build table" $gcc -O2 examples/table.c -o "$t/table.exe"
    awk 'BEGIN { srand(1); for (i = 0; i < 300; i++) { x = rand(); y = rand(); print x "," y "," (x * y < 0.2) } }' >"$t/d.csv"
    for file in new replaced; do
        try "MinGW: table, a $file file" sh -c "cd $t && wine table.exe d.csv --quiet --save windows.st"
    done
    try "table, here" "$build/table" "$t/d.csv" --quiet --save "$t/here.st"
    try "table: the same model" cmp "$t/here.st" "$t/windows.st"
}
windows() {
    windows_headers
    windows_runs
    [ ! -d "$t/wine" ] || wineserver -w # it writes its files when the last program has ended
}

# ---- small tests under sanitizers (full: ordinary ones too, valgrind, the thread sanitizer)
memory() {
    san= level=-O0 compilers="gcc clang"
    full && level=-O1 compilers="clang gcc"
    echo 'int main(void) { return 0; }' >"$t/e.c"
    for cc in $compilers; do
        [ -n "$san" ] || ! $cc -fsanitize=address,undefined "$t/e.c" -o "$t/e" 2>/dev/null || san=$cc
    done
    if [ -n "$san" ]; then
        flags="-g $level -fsanitize=address,undefined -fno-sanitize-recover=all"
        try "sanitizers: build the library" $san $flags -c tests/impl.c -o "$t/san.o"
        for suite in $suites images bits graphs; do
            object=$t/san.o
            case $suite in bits | graphs) object= ;; esac
            try "sanitizers: build $suite" $san $flags tests/$suite.c $object -o "$t/san" -lpthread -lm
            try "sanitizers: $suite" "$t/san" --small
            full && try "sanitizers, all sizes: $suite" "$t/san"
        done
        try "sanitizers: build fuzz" $san $flags tests/fuzz.c "$t/san.o" -o "$t/san" -lpthread -lm
        seconds=4
        full && seconds=120
        try "sanitizers: nonsense" "$t/san" --seconds $seconds
    else skip "sanitizers"; fi
    full || return
    for suite in $suites images bits graphs; do
        has valgrind || { skip "valgrind $suite"; continue; }
        object=$t/vg.o
        case $suite in bits | graphs) object= ;; esac
        [ -f "$t/vg.o" ] || try "valgrind: build the library" cc -g -O1 -c tests/impl.c -o "$t/vg.o"
        try "valgrind: build $suite" cc -g -O1 tests/$suite.c $object -o "$t/vg" -lpthread -lm
        try "valgrind: $suite" valgrind -q --error-exitcode=9 --leak-check=full "$t/vg" --small
    done
    [ -n "$san" ] || return
    try "thread sanitizer: build" $san -g -O1 -fsanitize=thread tests/bits.c -o "$t/tsan" -lpthread -lm
    try "thread sanitizer: bits" "$t/tsan" --small
}

for section; do $section; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
