#!/bin/sh
# examples/finetune.c: bad options and files get one line on stderr and exit code 2, good ones the
# result line; what is saved is what was tested; the public ResNet-20 is as good as published.
# usage: tests/finetune.sh FINETUNE [DATA]     DATA: directory of the public data [../shared/data]
set -u
LC_ALL=C
export LC_ALL
finetune=$1
shared=${2:-$(dirname "$0")/../../shared/data}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1
differ() { if [ -n "$2" ] && [ -n "$3" ] && [ "$2" != "$3" ]; then ok; else bad "$1: '$2' twice"; fi; }

# images COUNT: records of ten labels with pixels that vary.
images() {
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) { printf "%c", 1 + i % 9
        for (j = 0; j < 3072; j++) printf "%c", 1 + int(j * j / 7 + 31 * (i % 9) * j) % 126 } }'
}
mkdir "$dir/data" "$dir/none" "$dir/hundred"
images 24 >"$dir/data/data_batch_1.bin"
images 8 >"$dir/data/test_batch.bin"
head -c 30740 /dev/zero >"$dir/hundred/train.bin" # ten records of CIFAR-100
cp "$dir/hundred/train.bin" "$dir/hundred/test.bin"

# tensors METADATA: a safetensors file that has bn1.weight alone: 16 times 1.
tensors() {
    header="{\"__metadata__\":{$1},\"bn1.weight\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,64]}}"
    printf "\\$(printf %o ${#header})\0\0\0\0\0\0\0%s" "$header"
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do printf '\0\0\200\77'; done
}
tensors '"model":"resnet-8"' >"$dir/part"
tensors '"model":"lenet"' >"$dir/lenet"
tensors '"model":"resnet-8","mean":"0.5 0.5"' >"$dir/mean"
tensors '"model":"resnet-8","std":"0.2 0 0.2"' >"$dir/std"
tensors '"model":"resnet-8","mean":"0.5 nan 0.5"' >"$dir/nan"
tensors '"format":"pt"' >"$dir/nameless"

tiny="--epochs 2 --batch 8 --seeds 1 --threads 2 --quiet"
run() { weights=$1; shift; "$finetune" --data "$dir/data" --weights "$dir/$weights" $tiny "$@"; }

refuse "no --data" 2 "--data is missing" "$finetune" --weights "$dir/part"
refuse "no --weights" 2 "--weights is missing" "$finetune" --data "$dir/data"
refuse "no images" 2 "no such file" "$finetune" --data "$dir/none" --weights "$dir/part" --new-head
refuse "missing weights" 2 "absent: No such file or directory" run absent
refuse "weights that are none" 2 "data_batch_1.bin: " run data/data_batch_1.bin --net resnet-8
refuse "a directory as weights" 2 "none: " run none --net resnet-8
refuse "no name of the net" 2 "--net is missing: $dir/nameless does not name its model" run nameless
refuse "unknown net in the file" 2 "lenet: model lenet: expected wrn-D-W" run lenet
refuse "unknown net" 2 "--net resnet-9: expected" run part --net resnet-9
refuse "incomplete weights" 2 "(--new-head loads what fits)" run part
refuse "two numbers as mean" 2 '"mean" is "0.5 0.5", expected three numbers' run mean
refuse "zero as deviation" 2 '"std" above 0' run std
refuse "a mean that is none" 2 "expected finite numbers" run nan
refuse "unknown option" 2 "unknown option '--speed'" run part --speed 3
refuse "unknown corruption" 2 "--corruption 'snow': expected none, gaussian_noise" run part --corruption snow
refuse "severity 6" 2 "--severity '6': expected a whole number from 1 to 5" run part --severity 6
refuse "severity 0" 2 "--severity '0'" run part --severity 0
refuse "unknown family" 2 "--late bm: expected none, or bn, head, full joined by commas" run part --late bm
refuse "a family that weights files have not" 2 "--late bn,rank1: expected none, or bn, head, full joined" \
    run part --late bn,rank1
refuse "drop after nothing" 2 "--drop '0'" run part --drop 0
refuse "batch larger than the data" 2 "--batch 25: expected at most 24" run part --batch 25
refuse "nowhere to save" 2 "--save $dir/absent/x: cannot be written" run part --save "$dir/absent/x"
refuse "unwritable CSV" 2 "$dir/absent/x.csv: cannot" run part --new-head --csv "$dir/absent/x.csv"
refuse "exploding loss" 1 "not finite" run part --new-head --lr 1e20 --late none

# A file that has one tensor of the net: the rest starts anew, and that is said.
accept "partial" '^result dataset=cifar10 corruption=none .* net=resnet-8 late=none members=1 ' \
    "$finetune" --data "$dir/data" --weights "$dir/part" --new-head --epochs 1 --batch 8 --seeds 1 --late none
for line in "linear.weight is not in the file" "conv1.weight is not in the file"; do
    if grep -qx "$line" "$dir/out"; then ok; else bad "no line: $line"; fi
done
if grep -q '^bn1.weight' "$dir/out"; then bad "bn1.weight is loaded"; else ok; fi

accept "three trainings" '^result .* late=bn members=3 seed=1 seeds=1 before_acc=.* ensemble_nll=' \
    run part --new-head --members 3 --lr 0.05 --save "$dir/whole" --csv "$dir/csv"
same "rows of the CSV" "$(cut -d, -f2 "$dir/csv" | tr '\n' ' ')" \
    "method before statistics plain slow late ensemble "
late=$(value late_nll) plain=$(value plain_nll)
differ "late-phase is not plain" "$late" "$plain"
differ "the ensemble is not the average" "$late" "$(value ensemble_nll)"
differ "the rate matters" "$plain" "$(value slow_nll)"
differ "statistics of the data" "$(value before_nll)" "$(value statistics_nll)"
accept "one thread" '^result' run part --new-head --members 3 --lr 0.05 --threads 1
same "one thread, same numbers" "$late" "$(value late_nll)"
accept "plain alone" '^result .* late=none members=1 .* plain_nll=[0-9.]* train' \
    run part --new-head --members 1 --lr 0.05
same "plain does not depend on K" "$plain" "$(value plain_nll)"
for change in "--late bn,head" "--theta 3" "--gamma 2" "--drop 2" "--wd 0.1" "--seed 2" \
    "--corruption contrast"; do
    accept "$change" '^result' run part --new-head --members 3 --lr 0.05 $change
    differ "$change" "$late" "$(value late_nll)"
done
accept "rate 0" '^result' run part --new-head --members 3 --lr 0
same "without a rate all are plain" "$(value plain_nll)" "$(value slow_nll)"
first=$(value plain_nll)$(value late_nll)
accept "rate 0, in one part" '^result' run part --new-head --members 3 --lr 0 --drop 2
same "the second part goes on where the first ended" "$first" "$(value plain_nll)$(value late_nll)"

# What was saved names its net, is complete, and is the averaged model that was tested.
accept "saved model" '^result .* net=resnet-8 ' run whole --late none
same "saved model, same NLL" "$late" "$(value before_nll)"
refuse "wrong net for the weights" 2 "whole: " run whole --net resnet-14
refuse "wrong family of nets" 2 "whole: " run whole --net wrn-10-1
accept "a new head" '^result' run whole --new-head --late none
differ "a new head forgets" "$late" "$(value before_nll)"
accept "a hundred classes" '^result dataset=cifar100 ' "$finetune" --data "$dir/hundred" --dataset cifar100 \
    --weights "$dir/whole" --new-head --epochs 1 --batch 8 --seeds 1 --late none
if grep -qxF 'linear.weight is [10,64] in the file, but [100,64] in the net' "$dir/out"; then ok
else bad "no line that says what does not fit"; fi
accept "two seeds" '^result .* seeds=2 ' "$finetune" --data "$dir/data" --weights "$dir/whole" --new-head \
    --epochs 1 --batch 8 --seeds 2 --members 2
if grep -qx 'linear.weight starts anew' "$dir/out" && [ "$(grep -c 'starts anew' "$dir/out")" -eq 2 ]; then ok
else bad "the new head is listed once"; fi
if grep -q '^note: 2 members learn from 1 minibatch each' "$dir/err"; then ok; else bad "no note of too few turns"; fi
accept "help" 'this text$' "$finetune" --help

if [ -f "$shared/resnet20-cifar10.safetensors" ] && [ -f "$shared/cifar10-mini/test_batch.bin" ]; then
    real() {
        "$finetune" --data "$shared/cifar10-mini" --weights "$shared/resnet20-cifar10.safetensors" \
            --net resnet-20 --seeds 1 --threads 2 --quiet "$@"
    }
    accept "ResNet-20: 915 of 1,000" ' before_acc=91.50 before_nll=0.384[12] ' \
        real --limit-train 64 --batch 64 --epochs 1 --late none --lr 0
    accept "ResNet-20: noise" '^result' real --limit-train 256 --limit-test 200 --batch 32 --epochs 2 --members 2 \
        --lr 0.01 --corruption gaussian_noise --severity 5
    if [ "$(value before_acc | cut -d. -f1)" -lt 45 ] && [ "$(value late_acc | cut -d. -f1)" -gt 50 ] \
        && [ "$(value plain_acc | cut -d. -f1)" -gt 50 ]; then ok
    else bad "noise costs half of the accuracy and training brings some back: $(tail -n 1 "$dir/out")"; fi
    refuse "ResNet-20 for a hundred classes" 2 '"linear.bias" is [10] in the file, but [100] in the net' \
        real --dataset cifar100 --data "$dir/hundred" --batch 8
else
    echo "skipped: no resnet20-cifar10.safetensors and cifar10-mini in $shared"
    skipped=$((skipped + 1))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
