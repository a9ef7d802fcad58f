#!/bin/sh
# Compares Wide ResNets, nets for photographs and a character LSTM with PyTorch, where a python3 with torch is
# installed.
# usage: tests/torch.sh [OBJECT [full]]     OBJECT: tests/impl.c, compiled
set -u
cd "$(dirname "$0")/.." || exit 1
for python in ${PYTHON:-} python3 /usr/bin/python3; do
    if "$python" -c 'import torch' 2>/dev/null; then
        exec "$python" tests/torch_compare.py "$@"
    fi
done
echo "skipped: no python3 with torch (Debian: python3-torch)"
echo "0 passed, 0 failed, 1 skipped"
