#!/bin/sh
# Bad input of the programs: one line on stderr that names the thing, exit code 2 (1 when training
# itself fails), and no result line; good input: the result line.
# usage: tests/cli.sh CIFAR DEMO ENWIK8 [SWEEP]
set -u
LC_ALL=C
export LC_ALL
cifar=$1 demo=$2 enwik8=$3 sweep=${4:-$(dirname "$1")/sweep}
case $enwik8 in /*) ;; *) enwik8=$PWD/$enwik8 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
dir=$(mktemp -d) || exit 1
trap 'chmod -R u+rwx "$dir"; rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1

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
refuse "unwritable CSV" 2 "$dir/absent/x.csv: cannot" run good --csv "$dir/absent/x.csv"
refuse "unknown option" 2 "unknown option '--speed'" run good --speed 3
refuse "a word that is no option" 2 "unknown option 'fast'" run good fast
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
refuse "unknown family" 2 "--late bm: expected none, or bn, head, full, rank1, hyper, batchensemble joined by commas" \
    run good --late bm
refuse "unknown preset" 2 "--preset 'best'" run good --preset best
refuse "unknown instruction set" 2 "--isa 'sse9'" run good --isa sse9
refuse "T0 behind the end" 2 "--t0 2" run good --t0 2
refuse "exploding loss names step and member" 1 "member" run good --lr 1e20 --lr-end 1e20
refuse "demo: unknown option" 2 "unknown option" "$demo" --data x
refuse "demo: zero seeds" 2 "--seeds '0'" "$demo" --seeds 0
accept "K = 1" '^result .*test_acc=[0-9.]+ ' run good --members 1
mkdir "$dir/varied"
awk 'BEGIN { for (i = 0; i < 40; i++) { printf "%c", 1 + i % 9
    for (j = 0; j < 3072; j++) printf "%c", 1 + int(j * j / 7 + 31 * (i % 9) * j) % 126 } }' \
    >"$dir/varied/data_batch_1.bin"
head -c 61460 "$dir/varied/data_batch_1.bin" >"$dir/varied/test_batch.bin"
accept "direct convolutions" '^result' run varied --direct-conv --csv "$dir/direct.csv"
accept "recompute" '^result' run varied --recompute --csv "$dir/recompute.csv"
accept "neither" '^result' run varied --csv "$dir/plain.csv"
# all but the time: the last column
for f in direct recompute plain; do cut -d, -f1-6 "$dir/$f.csv" >"$dir/$f"; done
if cmp -s "$dir/plain" "$dir/recompute"; then ok; else bad "--recompute changes no result"; fi
if cmp -s "$dir/plain" "$dir/direct"; then bad "--direct-conv rounds differently"; else ok; fi
accept "no late phase" '^result .*late=none' run good --late none
accept "all families, SWA" '^result dataset=cifar10 net=wrn-10-1 late=full' run good --late full --swa-from 2
accept "EMA" '^result' run good --late full --ema 0.9
if grep -q '^averaged model, EMA ' "$dir/out"; then ok; else bad "the table has a row for EMA"; fi
accept "Lookahead" '^result' run varied --csv "$dir/lookahead.csv" --lookahead 1 --save "$dir/lookahead.st"
if [ ! -s "$dir/lookahead.csv" ] || [ "$(cut -d, -f1-6 "$dir/lookahead.csv")" = "$(cat "$dir/plain")" ]; then bad "--lookahead changes the result"; else ok; fi
has() { if grep -qE -e "$2" "$dir/out"; then ok; else bad "$1: no line $2"; fi; }
saved() { file=$1; shift; "$cifar" --data "$dir/varied" --quiet --batch 16 --eval --weights "$dir/$file" "$@"; }
accept "the model of Lookahead" '^result' saved lookahead.st
accept "rank-1 factors" '^result .*late=rank1,bn ' run varied --late rank1,bn --save "$dir/rank1m.st" --save-members
accept "a saved net with factors and members" '^result .*late=rank1,bn ' saved rank1m.st
has "its members" '^members 1..2 '
accept "hypernetwork" '^result .*late=hyper ' run varied --late hyper --save "$dir/hyper.st" --save-members
accept "a saved hypernetwork" '^result .*late=hyper ' saved hyper.st
has "its members" '^members 1..2 '
# Without its members a model of factors or templates is saved as the plain net that they make.
row() { sed -n "s/^$1  *//p" "$dir/out"; }
plain() { # NAME MODEL: it answers as it did
    accept "$1, saved as a plain net" '^result .*late=none ' saved "$2"
    same "$1: the same answers" "$(row 'single model')" "$averaged"
    if grep -qE 'coefficients|weight\.[uv]"' "$dir/$2"; then bad "$1: nothing but plain weights"; else ok; fi
    accept "$1: exported" "^result net=wrn-10-1 " "$(dirname "$cifar")/export" "$dir/$2" "$dir/plain.h"
}
accept "rank-1 factors, one model" '^result' run varied --late rank1,bn --save "$dir/rank1.st" --lr 0.02
averaged=$(row 'averaged model')
plain "rank-1 factors" rank1.st
accept "factors from a plain file" '^result .*late=rank1 ' run varied --late rank1 --weights "$dir/rank1.st" \
    --lr 0 --lr-end 0 --wd 0
accept "hypernetwork, one model" '^result' run varied --late hyper,head --save "$dir/plain.st" --lr 0.02
averaged=$(row 'averaged model')
plain "hypernetwork" plain.st
refuse "templates from a plain file" 2 "which the net has not" run varied --late hyper --weights "$dir/plain.st"
accept "BatchEnsemble" '^result .*late=batchensemble ' run varied --late batchensemble --t0 0
same "a BatchEnsemble is judged as an ensemble" "$(value test_acc) $(value test_nll)" \
    "$(value ensemble_acc) $(sed -n 's/^ensemble .* //p' "$dir/out")"
same "no row of its average" "$(grep -c '^averaged' "$dir/out")" 0
refuse "BatchEnsemble of how many?" 2 "expected --members K" "$cifar" --data "$dir/varied" --late batchensemble --t0 0
refuse "the average of a BatchEnsemble" 2 "expected --save-members" run varied --late batchensemble --t0 0 --save "$dir/b.st"
refuse "a run named in two cells" 2 "--run 'a,b'" run varied --run a,b
# What differs after T0 alone changes the second epoch, and not the first.
course() { # OPTIONS: for each epoch its losses and accuracy, without seconds
    rm -f "$dir/course"
    run varied "$@" --csv "$dir/course" >"$dir/out" 2>"$dir/err"
    sed '1d; s/,[^,]*$//' "$dir/course"
}
differ_after_t0() { # NAME: the courses $dir/plain and $dir/other
    if [ "$(head -n 1 "$dir/plain")" = "$(head -n 1 "$dir/other")" ] && [ "$(wc -l <"$dir/other")" = 2 ] &&
        ! cmp -s "$dir/plain" "$dir/other"; then ok; else bad "$1"; fi
}
course --late none --accumulate 1 >"$dir/plain"
course --late none --accumulate 2 >"$dir/other"
differ_after_t0 "a step for two minibatches"
course --late bn,head >"$dir/plain"
course --late bn,head --wd-late 0.9 >"$dir/other"
differ_after_t0 "weight decay of the copies"
accept "dropout" '^result .*late=none ' run varied --late none --dropout 0.3 --mc-dropout 3
has "MC dropout" '^MC dropout, 3 passes  '
accept "deep ensemble" '^result .*seed=2 ' run varied --late none --ensemble 2 --save "$dir/m%d.st" \
    --results "$dir/results.csv" --run two
grep -E '^(single model|deep)' "$dir/out" >"$dir/trained"
has "both nets together" '^deep ensemble of 2 '
accept "a saved deep ensemble" '^result .*seed=2 ' saved m%d.st --ensemble 2
grep -E '^(single model|deep)' "$dir/out" >"$dir/read"
nll() { sed -n "s/^$1 .* //p" "$dir/out" | tail -n 1; }
if [ "$(nll 'deep ensemble')" != "$(nll 'single model')" ]; then ok; else bad "the first net has a say too"; fi
same "it answers as when it was trained" "$(cat "$dir/trained")" "$(cat "$dir/read")"
cp "$dir/m1.st" "$dir/twin1.st" && cp "$dir/m1.st" "$dir/twin2.st"
accept "an ensemble of one net twice" '^result' saved twin%d.st --ensemble 2
same "says what the net says" "$(nll 'deep ensemble')" "$(nll 'single model')"
accept "its second net" '^result' saved m2.st --results "$dir/results.csv"
same "it knows its seed" "$(tail -n 1 "$dir/results.csv" | cut -d, -f9)" 2
same "a line for each model, one header" "$(cut -d, -f1,10 "$dir/results.csv" | tr '\n' ' ')" \
    "run,model two,single two,single two,deep-ensemble run,single "
accept "validation" '^result' "$cifar" --data "$dir/varied" --net wrn-10-1 --epochs 1 --late none --batch 16 \
    --validation 8
has "what is held out is not trained" '^cifar10, 32 training and 8 test images$'
refuse "all images held out" 2 "--validation 40: expected fewer than the 40" run varied --validation 40
refuse "two ways to make weights" 2 "--late rank1,hyper: expected rank1 or hyper" run good --late rank1,hyper
refuse "no hypernetwork" 2 "--late hyper: expected a wrn, not resnet-8" run good --late hyper --net resnet-8
refuse "signs too late" 2 "--late batchensemble: expected --t0 0" run good --late batchensemble
refuse "dropout in a ResNet" 2 "--dropout 0.1: expected a wrn" run good --dropout 0.1 --net resnet-8
refuse "a step for two minibatches, with copies" 2 "--accumulate 2: expected --late none" run good --accumulate 2
refuse "masks without dropout" 2 "--mc-dropout 3: expected --dropout" run good --mc-dropout 3
refuse "nets with one checkpoint" 2 "--ensemble 2: expected without --checkpoint" run good --ensemble 2 --checkpoint "$dir/c.st"
refuse "nets with one file" 2 "expected a %d in the name" run good --ensemble 2 --save "$dir/one.st"
printf 'a,b\n' >"$dir/other.csv"
refuse "lines of another table" 2 "its first line is 'a,b'" run good --results "$dir/other.csv"
refuse "Lookahead and EMA" 2 "--lookahead 5: expected without --swa-from and --ema" run good --lookahead 5 --ema 0.9
refuse "SWA and EMA" 2 "--ema 0.9 beside --swa-from 2: expected one of them" run good --swa-from 2 --ema 0.9
accept "ResNet" '^result dataset=cifar10 net=resnet-8' run good --net resnet-8
accept "CSV" '^result' run good --csv "$dir/out.csv"
if [ "$(wc -l <"$dir/out.csv")" -eq 3 ]; then ok; else bad "the CSV has a header and a row per epoch"; fi
accept "help" . "$cifar" --help

# ---- texts: 4000 bytes, the last 200 are the test part
# letters: 4000 of a to e, without a line break
letters() { awk 'BEGIN { for (i = 0; i < 4000; i++) printf "%c", 97 + int(i * i / 7) % 5 }'; }
letters >"$dir/letters.txt"
{ head -c 3990 "$dir/letters.txt"; printf 'Zab~\377cdZZa'; } >"$dir/unseen"
{ head -c 3800 "$dir/letters.txt"; head -c 200 /dev/zero; } >"$dir/strange.x.y"
head -c 30 "$dir/letters.txt" >"$dir/short"
head -c 19 "$dir/letters.txt" >"$dir/shorter"
tr b-e a <"$dir/letters.txt" >"$dir/one"
: >"$dir/void"
cp "$dir/letters.txt" "$dir/locked"
chmod 000 "$dir/locked"
small="--units 8 --embedding 4 --batch 4 --length 8 --members 2 --threads 2 --quiet"
read_text() { where=$1; shift; "$enwik8" "$dir/$where" $small --steps 10 --t0 4 "$@"; }
epochs() { "$enwik8" "$dir/letters.txt" $small "$@"; }
in_directory() { (cd "$1" && shift && "$enwik8" $small --steps 2 --t0 1 "$@"); }

refuse "text: missing file" 2 "absent: cannot be read: No such file or directory" read_text absent
refuse "text: a file as directory" 2 "void/x: cannot be read: Not a directory" read_text void/x
refuse "text: directory" 2 "good: expected a file" read_text good
refuse "text: empty file" 2 "void: the file is empty" read_text void
refuse "text: too short for three parts" 2 "shorter: 19 bytes, expected at least 20" read_text shorter
refuse "text: too short for a batch" 2 "90 %, has 27 bytes, expected at least 33" read_text short
refuse "text: one symbol" 2 "one: the training part repeats byte 0x61" read_text one
if [ -r "$dir/locked" ]; then echo "skipped an unreadable file: this user may read all"
else refuse "text: unreadable" 2 "locked: cannot be opened: Permission denied" read_text locked; fi
refuse "text: one of several files is bad" 2 "absent: cannot be read" read_text letters.txt "$dir/absent"
refuse "text: more files than there is room" 2 "expected at most 64 times FILE" read_text $(yes one | head -n 65)
refuse "text: no FILE, another directory" 2 "README.md: not found; expected FILE" in_directory "$dir"
refuse "text: prompt outside the vocabulary" 2 "byte 0x5a at place 3 does not occur" \
    read_text letters.txt --generate 9 --prompt abZa
refuse "text: prompt that is not used" 2 "--prompt 'ab': expected with --generate" \
    read_text letters.txt --prompt ab
refuse "text: unknown option" 2 "unknown option '--data'" read_text letters.txt --data x
refuse "text: short option" 2 "unknown option '-v'" read_text letters.txt -v
refuse "text: unknown family" 2 "--late 'bn'" read_text letters.txt --late bn
refuse "text: unknown optimiser" 2 "--optim 'adamw'" read_text letters.txt --optim adamw
refuse "text: zero units" 2 "--units '0'" read_text letters.txt --units 0
refuse "text: zero streams" 2 "--batch '0'" read_text letters.txt --batch 0
refuse "text: zero length" 2 "--length '0'" read_text letters.txt --length 0
refuse "text: zero test streams" 2 "--eval-streams '0'" read_text letters.txt --eval-streams 0
refuse "text: negative steps" 2 "--steps '-1'" read_text letters.txt --steps -1
refuse "text: negative limit" 2 "--clip '-1'" read_text letters.txt --clip -1
refuse "text: temperature zero" 2 "--temperature '0'" read_text letters.txt --temperature 0
refuse "text: T0 at the end, steps" 2 "--t0 10: expected less than --steps 10" read_text letters.txt --t0 10
refuse "text: T0 at the end, epochs" 2 "--t0 2: expected less than --epochs 2" epochs --epochs 2 --t0 2
refuse "text: SWA before T0" 2 "--swa-from 4: expected 5 (after --t0) to 10" read_text letters.txt --swa-from 4
refuse "text: SWA behind the end" 2 "--swa-from 11" read_text letters.txt --swa-from 11
refuse "text: rate falls backwards" 2 "--lr-from 5: expected at most --lr-to 4" \
    read_text letters.txt --lr-from 5 --lr-to 4
refuse "text: unwritable CSV" 2 "$dir/absent/x.csv: cannot" read_text letters.txt --csv "$dir/absent/x.csv"
explode="--optim sgd --lr 1e20 --clip 0"
refuse "text: exploding loss names step and member" 1 ", member " read_text letters.txt $explode --report 10
refuse "text: exploding loss in validation" 1 "not finite (minibatches trained: 1)" \
    read_text letters.txt $explode --report 1
accept "text: a clipped gradient does not explode" '^result' read_text letters.txt $explode --clip 1e-20

# The whole result line of a short run, but for the rate; five letters are about log2(5) bits.
number='[0-9]+\.[0-9]{4}'
line="^result dataset=letters late=rank1 test_bpc=2.[23][0-9]{3} valid_bpc=$number train_char_s=[0-9]+ units=8 members=2 steps=10 seed=1\$"
accept "text: result line" "$line" read_text letters.txt
numbers() { tail -n 1 "$dir/out" | sed 's/train_char_s=[0-9]* //'; }
bpc() { tail -n 1 "$dir/out" | tr ' ' '\n' | grep _bpc; }
first=$(numbers) before=$(bpc)
# repeats NAME COMMAND...: the same result as the run before.
repeats() {
    name=$1
    shift
    accept "$name" '^result' "$@"
    if [ "$(numbers)" = "$first" ]; then ok; else bad "$name: $(numbers), expected $first"; fi
}
repeats "text: one thread, same numbers" read_text letters.txt --threads 1
head -c 1234 "$dir/letters.txt" >"$dir/letters.1"
tail -c +1235 "$dir/letters.txt" >"$dir/letters.2"
repeats "text: two files are one text" read_text letters.1 "$dir/letters.2"
# changes OPTIONS...: they make a difference to the first run's numbers.
changes() {
    accept "text: $*" '^result' read_text letters.txt "$@"
    if [ "$(bpc)" != "$before" ]; then ok; else bad "text: $* changes nothing"; fi
}
changes --seed 2
changes --lr 2e-3
changes --lr-end 1e-3
changes --optim sgd --lr 1e-3
changes --sigma0 0.5
changes --members 3

accept "text: validated rarely" '^result' read_text letters.txt --lr 0.05 --eval-streams 3 --report 10
first=$(numbers)
repeats "text: validation leaves training alone" read_text letters.txt --lr 0.05 --eval-streams 3 --report 1

# What can be learnt is learnt: the beginning says nothing of the rest, which repeats itself.
{ head -c 200 "$dir/letters.txt"; awk 'BEGIN { for (i = 0; i < 1000; i++) printf "xyz." }'; } >"$dir/cycle"
accept "text: a cycle is learnt" '^result dataset=cycle late=rank1 test_bpc=0[.][0-2]' "$enwik8" "$dir/cycle" \
    --units 16 --embedding 8 --batch 1 --length 50 --members 2 --quiet --lr 0.05 --steps 60 \
    --generate 9 --temperature 0.1 --prompt z.xy
if grep -qx 'z.xyz.xyz.xyz' "$dir/out"; then ok; else bad "the sample continues the cycle after z.xy"; fi

# Without training, the BPC does not depend on how a test part is cut into chunks.
accept "text: chunks" '^result' read_text letters.txt --lr 0 --eval-streams 3 --length 7
first=$(numbers)
repeats "text: other chunks, same numbers" read_text letters.txt --lr 0 --eval-streams 3 --length 50
accept "text: other streams" '^result' read_text letters.txt --lr 0 --eval-streams 1 --length 50
if [ "$(numbers)" != "$first" ]; then ok; else bad "the number of test streams changes nothing"; fi

accept "text: bytes that training lacks" '^result dataset=unseen .* test_bpc=[0-9]' read_text unseen
words="bytes that the training part lacks: 0 in validation, 5 in test, 24 bits each, 0.0000 and 0.6000 of the BPC"
if grep -qxF "$words" "$dir/out"; then ok; else bad "no line: $words"; fi
accept "text: a test part of nothing else" '^result dataset=strange.x late=rank1 test_bpc=24.0000 ' \
    read_text strange.x.y

accept "text: head" '^result dataset=letters late=head .* members=2 ' read_text letters.txt --late head
head=$(bpc)
# A model with its factors and the plain one that they make: the same bits, the same text.
text_of() {
    accept "text: saved $*" '^result' read_text letters.txt --save "$dir/text.st" "$@"
    accept "text: of a model saved $*" '^result' "$enwik8" --weights "$dir/text.st" --generate 100 --temperature 0.1 --prompt a
    sample=$(sed -n '/^100 characters/,/^result/p' "$dir/out" | grep -v '^result')
    accept "text: read again $*" "late=$late " read_text letters.txt --eval --weights "$dir/text.st"
}
late=rank1; text_of --save-members --lr 0.05
with=$(bpc) said=$sample
late=none; text_of --lr 0.05
same "text: the plain model" "$(bpc | grep test)" "$(echo "$with" | grep test)"
same "text: what it writes" "$sample" "$said"
accept "text: a plain model gets factors and members" ' late=rank1 .* members=2 ' read_text letters.txt --weights "$dir/text.st"
accept "text: no late phase" '^result .* late=none .* members=1 ' read_text letters.txt --late none
none=$(bpc)
accept "text: rank-1 factors, one member" '^result .* late=rank1 .* members=1 ' read_text letters.txt --members 1
one=$(bpc)
if [ "$(printf '%s\n' "$before" "$head" "$none" "$one" | grep -c .)" -eq 8 ] \
    && [ "$(printf '%s\n' "$before" "$head" "$none" "$one" | sort -u | grep -c .)" -eq 8 ]; then ok
else bad "the families learn differently: $before $head $none $one"; fi
accept "text: epochs, two layers, SGD" '^result .* steps=224 ' epochs --epochs 2 --t0 1 --layers 2 --optim sgd
accept "text: T0 = 0" '^result' read_text letters.txt --t0 0
if grep -q '^single model' "$dir/out"; then bad "there is no single model at T0 = 0"; else ok; fi
accept "text: SWA" '^result' read_text letters.txt --swa-from 6 --swa-every 3 --lr-end 1e-3
if [ "$(grep -cE "^(single model at T0|members 1..2|averaged model)(, SWA)? " "$dir/out")" -eq 5 ]; then ok
else bad "the table has a row of each model, before and after SWA"; fi
if [ "$(sed -n 's/^averaged model[,SWA ]*//p' "$dir/out" | sort -u | wc -l)" -eq 2 ]; then ok
else bad "SWA changes nothing"; fi
accept "text: CSV" '^result' read_text letters.txt --csv "$dir/text.csv" --report 4
if [ "$(cut -d, -f1 "$dir/text.csv" | tr '\n' ' ')" = "step 4 8 10 " ]; then ok
else bad "the CSV has a header and a row per report"; fi
valid=$(cut -d, -f4 "$dir/text.csv")
accept "text: validation limit" '^result' read_text letters.txt --csv "$dir/text.csv" --report 4 --eval-limit 40
if [ "$(cut -d, -f4 "$dir/text.csv")" != "$valid" ]; then ok; else bad "--eval-limit changes nothing"; fi

# generates NAME LENGTH BYTES...: the sample has so many characters, of these alone.
generates() {
    accept "$1" '^result' read_text letters.txt --generate 50 $3
    sample=$(sed -n '/^50 characters at temperature/{n;n;p;}' "$dir/out")
    case $sample in *[!a-e]*) bad "$1: strange characters: $sample" ;; *) ok ;; esac
    if [ ${#sample} -eq "$2" ]; then ok; else bad "$1: ${#sample} characters: $sample"; fi
}
generates "text: sample" 50 ""
varied=$sample
generates "text: a sure sample" 50 "--temperature 0.01"
if [ "$sample" != "$varied" ]; then ok; else bad "the temperature changes nothing"; fi
generates "text: sample behind a prompt" 54 "--prompt abca --temperature 0.5"
case $sample in abca*) ok ;; *) bad "the sample begins with the prompt" ;; esac
accept "text: this repository" '^result dataset=embedded ' in_directory "$root" --eval-limit 1000 --generate 0
accept "text: help" 'this text$' "$enwik8" --help
if grep -q '^  FILE \.\.\. ' "$dir/out"; then ok; else bad "the help lists FILE"; fi

# ---- the number of members comes from the minibatches after T0, LP_TURNS_LEAST for each
least=$(sed -n 's/.*LP_TURNS_LEAST = \([0-9]*\).*/\1/p' "$root/latephase.h")
# notes NAME LINES WORDS COMMAND...: exit code 0, so many notes on stderr, the last with these words.
notes() {
    name=$1 lines=$2 words=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    if [ "$got" -eq 0 ] && [ "$(grep -c '^note: ' "$dir/err")" -eq "$lines" ] \
        && { [ "$lines" -eq 0 ] || grep '^note: ' "$dir/err" | tail -n 1 | grep -qF -e "$words"; }; then ok
    else bad "$name: code $got, expected 0, $lines note and: $words"; fi
}
says() { if grep -qE -e "$1" "$dir/out"; then ok; else bad "$name: no line $1"; fi; }
# 40 images: in minibatches of 16 three an epoch, in minibatches of one 40
short="--data $dir/good --net wrn-10-1 --half --threads 2 --epochs"
enough=$(((2 * least + 39) / 40))
notes "default, too few turns" 1 "3 minibatches after T0 (--t0) are too few, for two members would learn from fewer than $least each" \
    "$cifar" $short 2 --batch 16
says '^result .* late=none'
notes "two members, too few turns" 1 "2 members learn from 1 minibatch each, of 3 after T0" \
    "$cifar" $short 2 --batch 16 --members 2
says '^result .* late=bn,head'
notes "a preset keeps its members" 1 "10 members learn from 0 minibatches each, of 3 after T0" \
    "$cifar" $short 2 --batch 16 --preset cifar10_bn
says ': 10 members after epoch 1$'
notes "options of copies without copies" 1 "--sigma0, --wd-late: without effect, for there are no copies" \
    "$cifar" $short 2 --batch 16 --late none --wd-late 0.1 --sigma0 0.1
notes "no note without a late phase" 0 "" "$cifar" $short 2 --batch 16 --late none
notes "no note with one member" 0 "" "$cifar" $short 2 --batch 16 --members 1
notes "--quiet" 0 "" "$cifar" $short 2 --batch 16 --members 2 --quiet
notes "one epoch has no T0" 1 "there is nothing before T0" "$cifar" $short 1 --batch 16
notes "default, enough turns" 0 "" "$cifar" $short $((enough + 1)) --t0 1 --batch 1
says ': 2 members after epoch 1$'
notes "default, an epoch less" 1 "$((40 * enough - 40)) minibatches after T0" \
    "$cifar" $short "$enough" --t0 1 --batch 1
notes "default T0 rounds up" 0 "" "$cifar" $short 4 --batch 16 --members 1
says ': 1 member after epoch 3$'
steps() { "$enwik8" "$dir/letters.txt" --units 8 --embedding 4 --batch 4 --length 8 --threads 2 --steps "$@"; }
notes "text: enough turns" 0 "" steps $((5 * least))
says '^result .* late=rank1 .* members=2 '
notes "text: one minibatch less" 1 "$((2 * least - 1)) minibatches after T0" steps $((5 * least - 1))
says '^result .* late=none .* members=1 '
notes "text: two members, too few turns" 1 "2 members learn from $((least - 1)) minibatches each, of $((2 * least - 1))" \
    steps $((5 * least - 1)) --members 2
mkdir "$dir/more"
records 128 3 3073 >"$dir/more/data_batch_1.bin"
cp "$dir/good/test_batch.bin" "$dir/more"
notes "sweep: defaults" 1 "are too few, for two members" "$sweep" --data "$dir/more" --epochs 2 --seeds 1 --threads 2 --t0 1
says '^result data=cifar10 .* members=1 '
notes "sweep: three members" 1 "3 members learn from 0 minibatches each" "$sweep" --data "$dir/more" --epochs 2 --seeds 2 \
    --threads 2 --members 3 --csv "$dir/sweep.csv"
if [ "$(wc -l <"$dir/sweep.csv")" -eq 9 ]; then ok; else bad "sweep: the CSV has a row per seed and method"; fi
refuse "sweep: no --data" 2 "--data is missing" "$sweep"
refuse "sweep: T0 at the end" 2 "--t0 2: expected 1 to 1" "$sweep" --data "$dir/more" --epochs 2 --t0 2

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
