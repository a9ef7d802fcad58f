#!/bin/sh
# The benchmark beside its peers, in alternation: OpenBLAS (one thread), oneDNN and PyTorch (two
# threads).  Median of RUNS invocations (default 5).  Installs nothing; says what is missing.
# usage: tests/peers.sh [build directory] [WHAT ...]   WHAT: sgemm conv wrn imagenet imagenet-memory
# lstm threads (default: all; threads: ours with two beside ours with one)
# The peers' programs come from the directory PEERS (default ../shared/bench): openblas_sgemm.c,
# onednn_conv.cpp, torch_wrn.py and torch_lstm.py, which print "result peer=... key=value".
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build} peers=${PEERS:-../shared/bench} runs=${RUNS:-5}
[ $# -gt 0 ] && shift
what=" ${*:-sgemm conv wrn imagenet imagenet-memory lstm threads} "
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # the peer chooses for itself, unless told below
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

wanted() { case $what in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
values() { sed -n "s/.*[ ]$1=\([0-9.]*\).*/\1/p"; }
median() { sort -n | awk '{v[NR] = $1} END {if (NR) print v[int((NR + 1) / 2)]}'; }
ratio() { awk "BEGIN {printf \"%.2f\", $1 / $2}"; }
# pair 'OURS' 'PEER' NAME KEY ...: both in turn, RUNS times; a line for each NAME, of the number that
# both print as KEY.
pair() {
    ours=$1 theirs=$2
    shift 2
    : >"$tmp/a"; : >"$tmp/b"
    i=0
    while [ "$i" -lt "$runs" ]; do
        sh -c "$ours" >>"$tmp/a"
        sh -c "$theirs" 2>"$tmp/err" >>"$tmp/b" || echo "failed ($?): $theirs: $(tail -n 1 "$tmp/err")"
        i=$((i + 1))
    done
    while [ $# -gt 1 ]; do
        a=$(values "$2" <"$tmp/a" | median) b=$(values "$2" <"$tmp/b" | median)
        [ "$a" ] && [ "$b" ] && echo "result compare=$1-$2 ours=$a peer=$b ratio=$(ratio "$a" "$b")"
        shift 2
    done
}

# OpenBLAS may not know a processor and then takes slow kernels: its best is the best of these.
best_core() {
    for core in "" SkylakeX Cooperlake Sapphirerapids Zen Haswell; do
        echo "$(OPENBLAS_CORETYPE=$core OPENBLAS_NUM_THREADS=1 "$tmp/blas" 1024 1024 1024 2>/dev/null \
            | values gflop_s) $core"
    done | sort -n | tail -n 1 | cut -d' ' -f2
}

sgemm() {
    core=$(best_core)
    for size in "256 256 256" "512 512 512" "1024 1024 1024" "2048 2048 2048" "4096 160 144"; do
        name=$(echo "$size" | tr ' ' x)
        pair "$build/bench --isa avx2 sgemm-$name" \
            "OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 $tmp/blas $size" \
            "sgemm-$name-avx2" gflop_s
        pair "$build/bench sgemm-$name" \
            "OPENBLAS_CORETYPE=$core OPENBLAS_NUM_THREADS=1 $tmp/blas $size" \
            "sgemm-$name-auto" gflop_s
    done
}

# passes FILE: "c-hw-pass value" for each pass of each result line
passes() {
    sed -n 's/.* c=\([0-9]*\) hw=\([0-9]*\) .* fwd=\([0-9.]*\) bwd_data=\([0-9.]*\) bwd_weights=\([0-9.]*\).*/\1-\2 \3 \4 \5/p' "$1" \
        | awk '{print $1 "-fwd", $2; print $1 "-bwd_data", $3; print $1 "-bwd_weights", $4}'
}
# conv ISA ISA_OF_ONEDNN: for every shape and pass the peer's better algorithm
conv() {
    : >"$tmp/ours"; : >"$tmp/peer"
    i=0
    while [ "$i" -lt "$runs" ]; do
        "$build/bench" --threads 2 --isa "$1" conv >"$tmp/a"
        DNNL_MAX_CPU_ISA=$2 OMP_NUM_THREADS=2 "$tmp/onednn" >"$tmp/b"
        passes "$tmp/a" >>"$tmp/ours"
        passes "$tmp/b" | sort -k1,1 -k2,2n | awk '{v[$1] = $2} END {for (k in v) print k, v[k]}' \
            >>"$tmp/peer"
        i=$((i + 1))
    done
    awk '!seen[$1]++ {print $1}' "$tmp/ours" | while read -r key; do
        a=$(awk -v k="$key" '$1 == k {print $2}' "$tmp/ours" | median)
        b=$(awk -v k="$key" '$1 == k {print $2}' "$tmp/peer" | median)
        echo "result compare=conv-$key-$1 ours=$a peer=$b ratio=$(ratio "$a" "$b")"
    done
}

if wanted sgemm; then
    if [ -f "$peers/openblas_sgemm.c" ] \
        && ${CC:-cc} -O2 "$peers/openblas_sgemm.c" -o "$tmp/blas" -lopenblas 2>/dev/null; then sgemm
    else echo "skipped: sgemm needs $peers/openblas_sgemm.c and OpenBLAS (Debian: libopenblas-dev)"; fi
fi
if wanted conv; then
    if [ -f "$peers/onednn_conv.cpp" ] \
        && ${CXX:-c++} -O2 "$peers/onednn_conv.cpp" -o "$tmp/onednn" -ldnnl 2>/dev/null; then
        conv auto ALL
        conv avx2 AVX2
    else echo "skipped: conv needs $peers/onednn_conv.cpp and oneDNN (Debian: libdnnl-dev)"; fi
fi

python=
for p in python3 /usr/bin/python3; do "$p" -c 'import torch' 2>/dev/null && python=$p && break; done
[ -z "$python" ] && echo "skipped: the nets need PyTorch (Debian: python3-torch)"
if [ -n "$python" ] && wanted wrn && [ -f "$peers/torch_wrn.py" ]; then
    for net in 16-1-128 16-4-128 28-10-64; do
        pair "$build/bench --threads 2 wrn-$net" "$python $peers/torch_wrn.py $net 2 3" \
            "wrn-$net" train_img_s "wrn-$net" infer_img_s
    done
    pair "$build/bench --threads 1 wrn-16-1-1" "$python $peers/torch_wrn.py 16-1-1 1 20" \
        wrn-16-1-1-one-thread infer_img_s
    runs=1 # the sizes of processes repeat
    pair "$build/bench --threads 2 wrn-28-10-128" "$python $peers/torch_wrn.py 28-10-128 2 1" \
        wrn-28-10-128 maxrss_mb
    cp "$tmp/b" "$tmp/large"
    pair "$build/bench --threads 2 --recompute wrn-28-10-128" "cat $tmp/large" \
        wrn-28-10-128-recompute maxrss_mb
    runs=${RUNS:-5}
fi
vision=$python
[ -n "$vision" ] && "$vision" -c 'import torchvision' 2>/dev/null || vision=
[ -z "$vision" ] && wanted imagenet && echo "skipped: imagenet needs torchvision (Debian: python3-torchvision)"
if [ -n "$vision" ] && wanted imagenet; then
    for net in 18-32 50-32; do
        pair "$build/bench --threads 2 resnet-$net" \
            "$python tests/torch_imagenet.py resnet${net%-*} ${net#*-} 2 2" \
            "resnet-$net" train_img_s "resnet-$net" infer_img_s
    done
    pair "$build/bench --threads 2 densenet-121-32" "$python tests/torch_imagenet.py densenet121 32 2 2" \
        densenet-121-32 train_img_s densenet-121-32 infer_img_s
fi
if [ -n "$vision" ] && wanted imagenet-memory; then
    runs=1 # PyTorch in the layout that needs less memory
    for net in resnet-50-32 densenet-121-16; do
        torchs=$(echo "$net" | sed 's/-\([0-9]*\)-/\1 /')
        pair "$build/bench --threads 2 $net" "$python tests/torch_imagenet.py $torchs 2 1 contiguous" "$net" maxrss_mb
        cp "$tmp/b" "$tmp/large"
        pair "$build/bench --threads 2 $net" "$python tests/torch_imagenet.py $torchs 2 1 channels_last" \
            "$net-channels-last" maxrss_mb
        pair "$build/bench --threads 2 --recompute $net" "cat $tmp/large" "$net-recompute" maxrss_mb
    done
    runs=${RUNS:-5}
fi
if [ -n "$python" ] && wanted lstm && [ -f "$peers/torch_lstm.py" ]; then
    pair "$build/bench --threads 2 lstm-500-100-200" "$python $peers/torch_lstm.py 100 200 2" \
        lstm-500-100-200 train_char_s
fi
# The second thread: ours beside ours with one.
if wanted threads; then
    for net in wrn-16-4-128 lstm-500-100-200; do
        key=train_img_s
        [ "$net" = lstm-500-100-200 ] && key=train_char_s
        pair "$build/bench --threads 2 $net" "$build/bench --threads 1 $net" "threads-2-to-1-$net" $key
    done
fi
