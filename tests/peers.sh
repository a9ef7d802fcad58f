#!/bin/sh
# The benchmark beside its peers, in alternation: OpenBLAS (one thread) and PyTorch (two threads).
# Median of RUNS invocations (default 5).  Installs nothing; says what is missing.
# The peers' programs come from the directory PEERS (default ../shared/bench): openblas_sgemm.c and
# torch_wrn.py, which print "result peer=... key=value".
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build} peers=${PEERS:-../shared/bench} runs=${RUNS:-5}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

value() { sed -n "s/.*[ ]$1=\([0-9.]*\).*/\1/p" | tail -n 1; }
median() { sort -n | awk '{v[NR] = $1} END {if (NR) print v[int((NR + 1) / 2)]}'; }
# pair NAME KEY_OURS 'OURS' KEY_PEER 'PEER': both in turn, RUNS times.
pair() {
    : >"$tmp/a"; : >"$tmp/b"
    i=0
    while [ "$i" -lt "$runs" ]; do
        sh -c "$3" | value "$2" >>"$tmp/a"
        sh -c "$5" | value "$4" >>"$tmp/b"
        i=$((i + 1))
    done
    a=$(median <"$tmp/a") b=$(median <"$tmp/b")
    echo "result compare=$1 ours=$a peer=$b ratio=$(awk "BEGIN {printf \"%.2f\", $a / $b}")"
}

if [ -f "$peers/openblas_sgemm.c" ] \
    && ${CC:-cc} -O2 "$peers/openblas_sgemm.c" -o "$tmp/blas" -lopenblas 2>/dev/null; then
    for size in "512 512 512" "1024 1024 1024" "2048 2048 2048"; do
        name=$(echo "$size" | tr ' ' x)
        pair "sgemm-$name-avx2" gflop_s "$build/bench --isa avx2 sgemm-$name" gflop_s \
            "OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 $tmp/blas $size"
        pair "sgemm-$name-auto" gflop_s "$build/bench sgemm-$name" gflop_s \
            "OPENBLAS_NUM_THREADS=1 $tmp/blas $size"
    done
else echo "skipped: sgemm needs $peers/openblas_sgemm.c and OpenBLAS (Debian: libopenblas-dev)"; fi

python=
for p in python3 /usr/bin/python3; do "$p" -c 'import torch' 2>/dev/null && python=$p && break; done
if [ -n "$python" ] && [ -f "$peers/torch_wrn.py" ]; then
    for net in 16-1-128 16-4-128; do
        pair "wrn-$net-train" train_img_s "$build/bench --threads 2 wrn-$net" train_img_s \
            "$python $peers/torch_wrn.py $net 2 3"
    done
else echo "skipped: Wide ResNets need $peers/torch_wrn.py and PyTorch (Debian: python3-torch)"; fi
