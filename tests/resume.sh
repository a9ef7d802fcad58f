#!/bin/sh
# Trainings that are killed at random moments, each time resumed, end with the same bits as one that
# never was; signals end a run in order; files that cannot be written lose nothing.
# usage: tests/resume.sh quick|full CIFAR ENWIK8
set -u
mode=$1 cifar=$2 enwik8=$3
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
kills=5 long=1
[ "$mode" = full ] && kills=50 long=8 # times the training

check() { # NAME COMMAND...
    name=$1
    shift
    if "$@" >"$t/log" 2>&1; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $name"; sed 's/^/     /' "$t/log" | head -n 5; fi
}
says() { grep -q -- "$1" "$2"; }
# The result without the speed, which is the machine's.
result() { tail -n 1 "$1" | sed 's/train_[a-z]*_s=[0-9.]*//'; }
same_result() { [ -n "$(result "$1")" ] && [ "$(result "$1")" = "$(result "$2")" ]; }
# A random number below $1, from $seed.
seed=${RESUME_SEED:-$$}
random() { seed=$(((seed * 1103515245 + 12345) % 2147483648)); echo $((seed / 65536 % $1)); }


# A data set in the CIFAR format: noise, brighter for higher classes.
mkdir "$t/data"
LC_ALL=C awk 'BEGIN { srand(7)
    for (i = 0; i < 300; i++) {
        printf "%c", i % 10 ? i % 10 : 256
        for (j = 0; j < 3072; j++) printf "%c", 40 + 15 * (i % 10) + int(rand() * 30)
    } }' >"$t/data/data_batch_1.bin"
cp "$t/data/data_batch_1.bin" "$t/data/test_batch.bin"
[ "$(wc -c <"$t/data/test_batch.bin")" -eq 921900 ] || { echo "0 passed, 0 failed, 1 skipped"; exit 0; }
cat README.md examples/options.h >"$t/text"

# A random part of $1 hundredths of a second, and some more.
nap() { sleep "$(awk "BEGIN { print $(random "$1") / 100 + 0.02 }")"; }

# The course of training without the seconds, the last column.
same_course() { cut -d, -f1-6 "$1" >"$t/a" && cut -d, -f1-6 "$2" | cmp "$t/a" - && [ "$(wc -l <"$1")" -gt 2 ]; }

# kill_often CHECKPOINT MODEL COMMAND...: kills the training, resumes it, kills it ..., and in the end
# lets it finish.  Where the machine is so fast that it is over before half of the kills, the whole again
# with shorter naps.
kill_often() {
    for longest in 40 20 10 5 3; do
        rm -f "$1"
        killed_with_naps $longest "$@" || return 1
        [ $n -lt $((kills / 2)) ] || return 0
    done
    echo "only $n kills before the end, with naps of up to 0.05 s"
    return 1
}
# Every other resumption has other threads and another instruction set.
killed_with_naps() {
    longest=$1 ck=$2 model=$3 n=0
    shift 3
    "$@" --checkpoint "$ck" --checkpoint-minutes 0 --save "$model" >"$t/out" 2>"$t/err" &
    while [ $n -lt $kills ]; do
        nap "$longest"
        kill -KILL $! 2>/dev/null || break
        wait $! 2>/dev/null
        n=$((n + 1)) other="--threads 1"
        [ $((n % 2)) = 0 ] && other="--threads 3 --isa $fused"
        if [ -f "$ck" ]; then "$1" --resume "$ck" --checkpoint-minutes 0 --save "$model" $other >"$t/out" 2>"$t/err" &
        else "$@" --checkpoint "$ck" --checkpoint-minutes 0 --save "$model" >"$t/out" 2>"$t/err" & fi
    done
    wait $!
}
# The slowest instruction set that has the same bits; "auto" where there is no fused multiply-add.
fused=scalar-fma
"$cifar" --data "$t/data" --net wrn-10-1 --half --epochs 1 --late none --isa scalar-fma --limit-train 16 \
    --limit-test 4 --batch 16 --quiet >/dev/null 2>&1 || fused=auto

# one NAME COMMAND...: a training in one piece, and the same one killed again and again.
one() {
    what=$1
    shift
    check "$what: in one piece" "$@" --threads 2 --save "$t/whole.$what" --csv "$t/whole.csv"
    cp "$t/log" "$t/whole"
    rm -f "$t/ck"
    check "$what: killed $kills times" kill_often "$t/ck" "$t/killed.$what" "$@" --csv "$t/killed.csv"
    check "$what: the same course" same_course "$t/whole.csv" "$t/killed.csv"
    echo "$what: $n kills"
    check "$what: the same result" same_result "$t/whole" "$t/out"
    check "$what: the same model" cmp "$t/whole.$what" "$t/killed.$what"
    check "$what: nothing is left beside it" sh -c "! ls $t/ck.part $t/killed.$what.part"
}
late="--members 2 --gamma 0.5"
one images "$cifar" --data "$t/data" --net wrn-10-1 --half --batch 32 --epochs $((10 * long)) --t0 $((4 * long)) \
    $late --swa-from $((7 * long)) --save-members
one text "$enwik8" "$t/text" --units 32 --embedding 16 --batch 8 --length 25 --steps $((500 * long)) \
    --t0 $((200 * long)) --report 200 --swa-from $((400 * long)) --swa-every 20 $late --save-members

# Too few minibatches after T0 for copies: factors, but no late phase.
one factors "$cifar" --data "$t/data" --net wrn-10-1 --half --batch 32 --late rank1 --epochs $((9 * long)) --t0 $((9 * long - 1))

[ "$mode" = full ] && one lookahead "$cifar" --data "$t/data" --net wrn-10-1 --half --batch 32 --epochs 80 --t0 32 $late \
    --lookahead 3
[ "$mode" = full ] && one average "$cifar" --data "$t/data" --net wrn-10-1 --half --batch 32 --epochs 80 --t0 32 $late --ema 0.9

# A signal: the state is saved, the command that goes on is named, and it does go on.
tiny="--data $t/data --net wrn-10-1 --half --batch 32 --epochs 12 --t0 9 $late"
# amid SIGNAL: sent to the training when that is neither over nor just about to begin, on any machine
amid() {
    for after in 0.5 0.2 0.1 0.05 1 2 4; do
        rm -f "$t/sig"
        "$cifar" $tiny --checkpoint "$t/sig" --checkpoint-minutes 1000 >"$t/out" 2>"$t/err" &
        sleep $after
        kill -$1 $! 2>/dev/null
        wait $!
        says "to go on: .*--resume $t/sig" "$t/err" && return 0
    done
    cat "$t/err"
    return 1
}
for signal in INT TERM; do
    check "$signal: a message" amid $signal
    check "$signal: the result of the whole" sh -c "$cifar --resume $t/sig >$t/out 2>$t/err"
    [ -f "$t/tiny" ] || "$cifar" $tiny >"$t/tiny" 2>&1
    check "$signal: the same result" same_result "$t/tiny" "$t/out"
    rm -f "$t/sig"
done

# The second signal does not wait: the minibatch of 300 images, some seconds, is not finished.  It may be
# that it was just about to be, so more than one trial.
twice() {
    for after in 1.5 1 2 0.5 3; do
        rm -f "$t/sig"
        "$cifar" --data "$t/data" --net wrn-16-4 --batch 300 --epochs 9 --late none --threads 1 --checkpoint "$t/sig" \
            >"$t/out" 2>"$t/err" &
        sleep $after
        kill -TERM $!
        sleep 0.3 # or both are one
        waits=1
        kill -TERM $! 2>/dev/null || waits=0
        wait $!
        code=$?
        [ $waits = 1 ] && [ $code = 143 ] && [ ! -e "$t/sig" ] && return 0
    done
    echo "first signal waits: $waits, code $code"
    ls "$t/sig"
    return 1
}
check "the second signal ends at once, without a checkpoint" twice

# Another late phase from the state of a plain run at T0, as if it had been planned so from the start.
plain="--data $t/data --net wrn-10-1 --half --batch 32"
check "plain run to T0" "$cifar" $plain --late none --epochs 4 --lr-from 3 --lr-to 8 --checkpoint "$t/t0"
check "branch" sh -c "$cifar --branch $t/t0 --late bn,head --members 2 --wd-late 0.05 --epochs 8 --save $t/branch >$t/out 2>$t/err"
"$cifar" $plain --late bn,head --members 2 --wd-late 0.05 --t0 4 --epochs 8 --lr-from 3 --lr-to 8 --save "$t/planned" >"$t/whole" 2>&1
cp "$t/planned" "$t/model"
check "a plain run that saves" "$cifar" $plain --late none --epochs 2 --save "$t/model" --csv "$t/csv" --checkpoint "$t/own" \
    --ema 0.9 --results "$t/rows" --run trunk
cp "$t/model" "$t/before.model" && cp "$t/csv" "$t/before.csv" && cp "$t/rows" "$t/before.rows"
check "its branch" "$cifar" --branch "$t/own" --members 2 --epochs 3
check "its branch without averaging" "$cifar" --branch "$t/own" --members 2 --epochs 3 --ema 0
check "a plain run with Lookahead" "$cifar" $plain --late none --epochs 2 --checkpoint "$t/ahead" --lookahead 3
check "its branch: late-phase weights without it" "$cifar" --branch "$t/ahead" --members 2 --epochs 3 --lookahead 0
check "its branch goes on with it" "$cifar" --branch "$t/ahead" --late none --epochs 3 --save "$t/ahead.branch"
check "as planned" "$cifar" $plain --late none --epochs 3 --lr-from 1 --lr-to 1.8 --save "$t/ahead.planned" --lookahead 3
check "the same model, amid a cycle of Lookahead" cmp "$t/ahead.branch" "$t/ahead.planned"
check "a branch leaves the model" cmp "$t/model" "$t/before.model"
check "a branch leaves the course" cmp "$t/csv" "$t/before.csv"
check "a branch leaves the results" cmp "$t/rows" "$t/before.rows"
factors="$t/text --units 16 --embedding 8 --batch 8 --length 25 --report 50 --lr-from 100 --lr-to 120"
check "text to T0" "$enwik8" $factors --steps 60 --late rank1 --members 1 --checkpoint "$t/text.t0"
check "branch of a text" "$enwik8" --branch "$t/text.t0" --members 2 --steps 120 --save "$t/text.branch"
check "text as planned" "$enwik8" $factors --steps 120 --t0 60 --late rank1 --members 2 --save "$t/text.planned"
check "branch of a text: the same model" cmp "$t/text.branch" "$t/text.planned"
check "a checkpoint is a model" "$enwik8" --weights "$t/text.t0" --generate 10
check "branch: the same result" same_result "$t/whole" "$t/out"
check "branch: the same model" cmp "$t/branch" "$t/planned"

# The course of a resumed run: what is beyond the checkpoint, or was not written to its end, is cut off; the
# rows before are never written again, so that a kill at that moment loses none.
kept="$t/kept.csv"
check "a run with a course" "$cifar" $plain --late none --epochs 2 --csv "$kept" --checkpoint "$t/kept.ck"
cp "$kept" "$t/two.csv"
{ cat "$t/two.csv"; echo "3,0.1,1.5,20.0000,2.000000,1,9.000"; printf '4,0.1,1.'; } >"$kept"
ln "$kept" "$t/same.csv"
check "it goes on" "$cifar" --resume "$t/kept.ck" --epochs 3
check "in the same file" cmp "$kept" "$t/same.csv"
check "after the same rows" sh -c "head -n 3 $kept | cmp - $t/two.csv"
check "with one of epoch 3, and no other" sh -c "[ \$(wc -l <$kept) = 4 ] && tail -n 1 $kept | grep -q '^3,' && ! grep -qF 3,0.1,1.5,20.0000,2.000000,1,9.000 $kept"
cp "$kept" "$t/three.csv"
full_disk() { (ulimit -f 0; trap '' XFSZ; "$cifar" --resume "$t/kept.ck" --epochs 4 >/dev/null 2>&1); [ $? = 2 ]; }
check "where nothing can be written it ends" full_disk
check "... and no row is lost" cmp "$kept" "$t/three.csv"

# refuse NAME WORDS COMMAND...: code 2 and a sentence with these words.
refuse() {
    name=$1 words=$2
    shift 2
    "$@" >"$t/out" 2>"$t/err"
    code=$?
    cp "$t/err" "$t/log"
    if [ $code = 2 ] && grep -q -- "$words" "$t/err"; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $name: code $code, expected 2 and: $words"; cat "$t/err"; fi
}
refuse "other rate" "--lr 0.2: the checkpoint .* was made with 0.1" "$cifar" --resume "$t/t0" --lr 0.2
refuse "fewer epochs" "--epochs 2" "$cifar" --resume "$t/t0" --epochs 2
refuse "no state" "not the state of a training" "$cifar" --data "$t/data" --net wrn-10-1 --resume "$t/planned"
refuse "no file" "No such file" "$cifar" --resume "$t/none"
refuse "no safetensors" "safetensors" "$cifar" --resume "$t/text"
head -c 100000 "$t/t0" >"$t/cut"
refuse "cut" "is it cut off" "$cifar" --resume "$t/cut"
head -c 921900 "$t/data/data_batch_1.bin" | tail -c +3074 >"$t/fewer" && mkdir "$t/other" \
    && cp "$t/fewer" "$t/other/data_batch_1.bin" && cp "$t/fewer" "$t/other/test_batch.bin"
echo "a,b" >"$t/foreign.csv"
printf '{"my": "notes"}' >"$t/foreign"
refuse "a file of something else" "its first line is '{" "$cifar" --resume "$t/kept.ck" --epochs 4 --csv "$t/foreign"
check "... which it stays" [ "$(cat "$t/foreign")" = '{"my": "notes"}' ]
refuse "the course of something else" "its first line is 'a,b', expected 'epoch,lr" "$cifar" --resume "$t/kept.ck" \
    --epochs 4 --csv "$t/foreign.csv"
refuse "other images" "not the images" "$cifar" --resume "$t/t0" --data "$t/other"
refuse "another net's weights" "conv1.weight" "$cifar" $plain --net wrn-10-2 --epochs 1 --t0 0 --weights "$t/planned"
refuse "what is no file" "/dev/null: expected a file" "$cifar" $plain --epochs 1 --t0 0 --save /dev/null
refuse "one file for two" "another file" "$cifar" $plain --epochs 1 --t0 0 --save "$t/x" --checkpoint "$t/x"
refuse "a branch over its trunk" "would take the place" "$cifar" --branch "$t/t0" --checkpoint "$t/t0"
refuse "a plain branch with the mean of its trunk" "it has averaged weights already" "$cifar" --branch "$t/own" --late none --epochs 3
refuse "a plain branch with SWA, from Lookahead" "it has averaged weights already .*--lookahead" \
    "$cifar" --branch "$t/ahead" --late none --epochs 3 --lookahead 0 --swa-from 3
refuse "the same where copies have too few turns" "it has averaged weights already .*--lookahead" \
    "$cifar" --branch "$t/ahead" --epochs 3 --lookahead 0 --swa-from 3
refuse "a branch with factors, from none" "--late rank1: the checkpoint .* was made with --late none, and a branch can" \
    "$cifar" --branch "$t/t0" --late rank1 --epochs 5
refuse "a branch with nothing to do" "expected more than the 4" "$cifar" --branch "$t/t0" --members 2
refuse "the other program's" "a checkpoint of enwik8" "$enwik8" --resume "$t/t0"
refuse "eval without weights" "--eval" "$cifar" $plain --eval
refuse "a directory that is not there" "none/ck" "$cifar" $plain --epochs 1 --t0 0 --save "$t/none/ck"

# Models and nothing else: the table of a file, text without a text.
check "eval" sh -c "$cifar --eval --weights $t/whole.images --data $t/data >$t/out"
check "eval: its members" says "members 1..2" "$t/out"
check "eval: the averaged model" says "averaged model" "$t/out"
check "text without a text" sh -c "$enwik8 --weights $t/whole.text --generate 30 >$t/out"
check "text without a text: characters" says "^30 characters" "$t/out"

# A full disk does not end the training, and the checkpoint before it stays.
if [ "$(id -u)" = 0 ] && mkdir "$t/disk" && mount -t tmpfs -o size=900k none "$t/disk" 2>/dev/null; then
    check "a full disk: training goes on" sh -c "$cifar $plain --late none --epochs 2 --checkpoint $t/disk/ck >$t/out 2>$t/err"
    cp "$t/disk/ck" "$t/before" 2>/dev/null
    head -c 500000 /dev/zero >"$t/disk/filler" 2>/dev/null
    check "a full disk: resumed" sh -c "$cifar --resume $t/disk/ck --epochs 3 >$t/out 2>$t/err"
    check "a full disk: a sentence" says "No space left" "$t/err"
    check "a full disk: the former checkpoint" cmp "$t/before" "$t/disk/ck"
    umount "$t/disk"
else skipped=$((skipped + 1)); echo "SKIP a full disk: no mount"; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
