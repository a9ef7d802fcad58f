#!/bin/sh
# Puts the binary version of CIFAR-100 into a directory; --help says how.
# train.bin has 50000, test.bin 10000 records of 3074 bytes: a coarse label
# (0..19), a fine label (0..99), then the planes R, G and B of a 32x32 picture,
# row by row.
#
# No SHA-256 of the two .bin files is known here. What is checked: the MD5 of
# the tarball where one is used, and always the sizes of the .bin files and
# their labels (ranges, every fine label equally often and always below the same
# coarse label). A wrong pixel in bare .bin files would not be noticed.
set -eu

here_dir=$(CDPATH='' cd "$(dirname "$0")" && pwd -P)
root=$(dirname "$here_dir")

# shellcheck disable=SC2034  # used in common.sh
{
script=get_cifar100.sh
title=CIFAR-100
default=data/cifar100
content='the binary version of CIFAR-100'
files='.bin files'
sum=sha256
resume=
table='train.bin 153700000 -
test.bin 30740000 -'
archive=cifar-100-binary.tar.gz
archive_md5=03b5dce01913d631647c71ecec9e9cb8
archive_dir=cifar-100-binary
official=https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz
check_data=check_labels
checked_by="sizes and labels checked; no SHA-256 of the .bin files is built in"
package=
package_name=
environment_note="
No SHA-256 of the .bin files is known: the tarball is checked by its MD5, bare
.bin files and those already there by their sizes and labels only.
"
}

# labels FILE: its pairs of labels as numbers. To cut records as lines, the bytes
# 0 and 10 are moved to 254 and 255 and back; 254 and 255 become 253, which is no
# label either.
labels() {
    LC_ALL=C tr '\000\012\376\377' '\376\377\375\375' <"$1" |
        LC_ALL=C fold -b -w 3074 | LC_ALL=C cut -b 1,2 | tr -d '\n' |
        LC_ALL=C tr '\376\377' '\000\012' | od -A n -v -t u1
}

# check_labels DIRECTORY
check_labels() {
    for part in test train; do
        case $part in train) each=500 ;; *) each=100 ;; esac
        problem=$(labels "$1/$part.bin" | awk -v each=$each '
            { for (i = 1; i < NF; i += 2) {
                coarse = $i + 0; fine = $(i + 1) + 0
                if (coarse > 19 || fine > 99) { bad = 1; exit }
                if (count[fine]++ && group[fine] != coarse) mixed = 1
                group[fine] = coarse } }
            END {
                if (bad) { print "coarse label " coarse ", fine label " fine \
                    " are out of range"; exit }
                for (i = 0; i < 100; i++) if (count[i] != each) {
                    print "fine label " i " occurs " count[i] + 0 \
                        " times, not " each; exit }
                if (mixed) print "a fine label has two coarse labels" }')
        if [ -n "$problem" ]; then
            why="$part.bin is corrupted: $problem"
            return 1
        fi
    done
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here_dir/common.sh"
get_data "$@"
