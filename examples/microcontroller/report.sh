# What the programs took on the chip, and what they answered: a table, and a line for machines.
# usage: report.sh DIRECTORY     with NAME.elf, NAME.chip and NAME.host of each; ARM: prefix of the tools
set -u
dir=$1 result=result

# section NAME PATTERN: bytes in the sections that match.
section() { "${ARM:-arm-none-eabi-}size" -A "$dir/$1.elf" | awk -v p="^($2)\$" '$1 ~ p {n += $2} END {print n + 0}'; }
# said NAME MACHINE KEY: what the program has printed; "-" if nothing.
said() { awk -v key="$3" '$1 == key {v = $2} END {print v == "" ? "-" : v}' "$dir/$1.$2" 2>/dev/null || echo -; }
line() { printf '%-22s %6s %8s %7s %8s %9s %8s %11s %9s %9s\n' "$@"; }
# row NAME WHAT
row() {
    flash=$(section "$1" '\.text|\.rodata|\.data') weights=$(section "$1" '\.weights')
    stack=$(said "$1" chip stack) memory=$(said "$1" chip memory)
    ram=$(($(section "$1" '\.data|\.bss') + stack))
    before=$(said "$1" chip before) right=$(said "$1" chip right)
    hash=$(said "$1" chip hash) here=$(said "$1" host hash)
    result="$result $1_flash=$flash $1_weights=$weights $1_ram=$ram $1_memory=$memory"
    result="$result $1_before=$before $1_right=$right $1_hash=$hash $1_hash_here=$here"
    [ "$before" = - ] || right="$before -> $right"
    line "$2" "$flash" "$weights" "$ram" "$(said "$1" chip graph)" "$memory" "$stack" "$right" "$hash" "$here"
}

echo "Cortex-M4F (mps2-an386 in QEMU), bytes; right answers of $(said infer chip tests)"
line "" flash +weights RAM "= graph" "+ memory" "+ stack" right hash "$(uname -m)"
row infer "inference"
row exported "the same net, exported"
row tune "fine-tuning, batch 4"
row tune1 "fine-tuning, batch 1"
echo "$result"
