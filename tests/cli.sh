#!/bin/sh
# Bad input of the programs: one line on stderr that names the thing, exit code 2 (1 when training
# itself fails), and no result line.  usage: tests/cli.sh CIFAR DEMO
set -u
cifar=$1 demo=$2
dir=$(mktemp -d) || exit 1
trap 'chmod -R u+rwx "$dir"; rm -rf "$dir"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL $1"; sed 's/^/     /' "$dir/err" | head -n 5; }

# refuse NAME CODE WORDS COMMAND...: exit code, one line on stderr with these words, no result.
refuse() {
    name=$1 code=$2 words=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    if [ "$got" -eq "$code" ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -qF -e "$words" "$dir/err" \
        && ! grep -q '^result' "$dir/out"; then ok; else bad "$name: code $got, expected $code and: $words"; fi
}
# accept NAME PATTERN COMMAND...: exit code 0, and a last line that matches.
accept() {
    name=$1 pattern=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    if [ "$got" -eq 0 ] && tail -n 1 "$dir/out" | grep -qE -e "$pattern"; then ok
    else bad "$name: code $got, expected 0 and: $pattern"; fi
}

# records COUNT LABEL BYTES: records of BYTES bytes, all of one label (octal).
records() {
    i=0
    while [ "$i" -lt "$1" ]; do
        printf "\\$2"
        head -c "$(($3 - 1))" /dev/urandom
        i=$((i + 1))
    done
}
mkdir "$dir/good" "$dir/cut" "$dir/empty" "$dir/label" "$dir/none" "$dir/hundred" "$dir/directory"
records 40 3 3073 >"$dir/good/data_batch_1.bin"
records 20 3 3073 >"$dir/good/test_batch.bin"
for d in cut empty label directory; do cp "$dir/good/test_batch.bin" "$dir/$d"; done
head -c 100000 "$dir/good/data_batch_1.bin" >"$dir/cut/data_batch_1.bin"
: >"$dir/empty/data_batch_1.bin"
records 5 12 3073 >"$dir/label/data_batch_1.bin"
mkdir "$dir/directory/data_batch_1.bin"
records 20 3 3074 >"$dir/hundred/data_batch_1.bin"
cp "$dir/hundred/data_batch_1.bin" "$dir/hundred/test_batch.bin"

tiny="--net wrn-10-1 --epochs 2 --t0 1 --batch 16 --members 2 --threads 2 --quiet"
run() { where=$1; shift; "$cifar" --data "$dir/$where" $tiny "$@"; }

refuse "truncated batch file" 2 "data_batch_1.bin" run cut
refuse "empty batch file" 2 "data_batch_1.bin: the file is empty" run empty
refuse "label out of range" 2 "record 0 has label 10, expected 0 to 9" run label
refuse "directory in place of a file" 2 "expected a file" run directory
refuse "no files" 2 "no such file" run none
refuse "missing directory" 2 "No such file or directory" run absent
refuse "CIFAR-100 records read as CIFAR-10" 2 "3073" run hundred
refuse "CIFAR-10 files for --dataset cifar100" 2 "no such file" run good --dataset cifar100
refuse "no --data" 2 "--data is missing" "$cifar"
refuse "unwritable CSV" 2 "--csv $dir/absent/x.csv" run good --csv "$dir/absent/x.csv"
refuse "unknown option" 2 "unknown option '--speed'" run good --speed 3
refuse "missing value" 2 "--epochs: the value is missing" run good --epochs
refuse "zero epochs" 2 "--epochs '0'" run good --epochs 0
refuse "negative epochs" 2 "--epochs '-1'" run good --epochs -1
refuse "not a number" 2 "--lr '0.1x'" run good --lr 0.1x
refuse "negative rate" 2 "--lr '-1'" run good --lr -1
refuse "zero members" 2 "--members '0'" run good --members 0
refuse "zero batch" 2 "--batch '0'" run good --batch 0
refuse "negative threads" 2 "--threads '-2'" run good --threads -2
refuse "zero training images" 2 "--limit-train '0'" run good --limit-train 0
refuse "negative test images" 2 "--limit-test '-5'" run good --limit-test -5
refuse "batch larger than the data" 2 "--batch 41: expected at most 40" run good --batch 41
refuse "unknown net" 2 "--net wrn-17-1" run good --net wrn-17-1
refuse "unknown family" 2 "--late bm" run good --late bm
refuse "unknown preset" 2 "--preset 'best'" run good --preset best
refuse "unknown instruction set" 2 "--isa 'sse9'" run good --isa sse9
refuse "T0 behind the end" 2 "--t0 2" run good --t0 2
refuse "exploding loss names step and member" 1 "member" run good --lr 1e20 --lr-end 1e20
refuse "demo: unknown option" 2 "unknown option" "$demo" --data x
refuse "demo: zero seeds" 2 "--seeds '0'" "$demo" --seeds 0
accept "K = 1" '^result .*test_acc=[0-9.]+ ' run good --members 1
accept "no late phase" '^result .*late=none' run good --late none
accept "all families, SWA" '^result dataset=cifar10 net=wrn-10-1 late=full' run good --late full --swa-from 2
accept "ResNet" '^result dataset=cifar10 net=resnet-8' run good --net resnet-8
accept "CSV" '^result' run good --csv "$dir/out.csv"
if [ "$(wc -l <"$dir/out.csv")" -eq 3 ]; then ok; else bad "the CSV has a header and a row per epoch"; fi
accept "help" . "$cifar" --help

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
