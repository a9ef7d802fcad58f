#!/bin/sh
# examples/measure.c: bad options and files get one line on stderr and exit code 2; numbers that can be
# computed in two ways agree; rows of the CSV file; .npy files written by hand, good and bad.
# usage: tests/measure.sh MEASURE CIFAR
set -u
LC_ALL=C
export LC_ALL
measure=$1 cifar=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1

# images COUNT SEED [LABEL_BYTES]: records of nine labels with pixels that vary, never 0.
images() {
    awk -v n="$1" -v s="$2" -v l="${3:-1}" 'BEGIN { for (i = 0; i < n; i++) {
        if (l == 2) printf "%c", 1
        printf "%c", 1 + i % 9
        for (j = 0; j < 3072; j++) printf "%c", 1 + int(j * j / 7 + s * i * i + 31 * (i % 9) * j) % 126 } }'
}
# pixels: the records of standard input as NumPy has images, pixel by pixel, without labels.
pixels() {
    od -An -v -tu1 | tr -s ' ' '\n' | grep . | awk '{ j = (NR - 1) % 3073; v[j] = $1 }
        j == 3072 { for (i = 1; i <= 1024; i++) for (c = 0; c < 3; c++) printf "%c", v[i + 1024 * c] }'
}
# npy DICTIONARY: a .npy file of version 1.0 with that header and the bytes of standard input.
npy() {
    printf '\223NUMPY\001\000'
    printf "\\$(printf %o $(((${#1} + 1) % 256)))\\$(printf %o $(((${#1} + 1) / 256)))%s\n" "$1"
    cat
}
dictionary() { printf "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }" "$1" "$2" "$3"; }

mkdir "$dir/data" "$dir/other" "$dir/none" "$dir/cut" "$dir/hundred"
images 40 0 >"$dir/data/data_batch_1.bin"
images 20 5 >"$dir/data/test_batch.bin"
images 30 77 >"$dir/other/test_batch.bin"
images 12 3 2 >"$dir/hundred/test.bin"
head -c 5000 "$dir/other/test_batch.bin" >"$dir/cut/test_batch.bin"
train() { "$cifar" --data "$dir/data" --net wrn-10-1 --half --epochs 3 --t0 1 --batch 16 --threads 2 --quiet "$@"; }
train --members 2 --save "$dir/late" --save-members --checkpoint "$dir/late.ck" >"$dir/trained" 2>"$dir/err" || bad "training"
train --late none --members 2 --save "$dir/plain" --checkpoint "$dir/plain.ck" >"$dir/out" 2>"$dir/err" || bad "plain training"
train --late none --seed 2 --save "$dir/second" >"$dir/out" 2>"$dir/err" || bad "another seed"
train --late none --net wrn-10-2 --save "$dir/wide" >"$dir/out" 2>"$dir/err" || bad "a wider net"
sed 's/"mean":"0\.4/"mean":"0.3/' "$dir/plain" >"$dir/shifted"
with() { weights=$1; shift; "$measure" --data "$dir/data" --weights "$dir/$weights" --threads 2 --quiet "$@"; }
run() { with late "$@"; }
# number MODEL METRIC SET STRENGTH: the value in the CSV file.
number() { sed -n "s/^$1,$2,$3,$4,//p" "$dir/csv" | tail -n 1; }
fresh() { rm -f "$dir/csv"; }

# ---- bad options and files
refuse "no --data" 2 "--data is missing" "$measure" --weights "$dir/late"
refuse "no --weights" 2 "--weights is missing" "$measure" --data "$dir/data"
refuse "missing weights" 2 "absent: No such file" with absent
refuse "weights that are none" 2 "test_batch.bin: " with data/test_batch.bin
refuse "no images" 2 "no such file" "$measure" --data "$dir/none" --weights "$dir/late"
refuse "another net" 2 "is it the same net?" run --net wrn-16-1
refuse "another number of members" 2 "--weights: " run --members 3
refuse "another data set" 2 "is it the same net?" "$measure" --data "$dir/hundred" --weights "$dir/late" --dataset cifar100
refuse "too many members" 2 "--members '65'" run --members 65
sed 's/"members":"2"/"members":"x"/' "$dir/late" >"$dir/crowd"
refuse "a file that says nonsense" 2 "crowd: its members is 'x', expected a whole number from 1 to 64" with crowd
refuse "no name of a file" 2 "expected the name of a file" "$measure" --data "$dir/data" --weights "$dir/plain,"
refuse "a deep ensemble of members" 2 "expected plain nets in a deep ensemble, not 2 members" run --weights "$dir/late,$dir/late"
refuse "a deep ensemble with a missing file" 2 "absent: No such file" run --weights "$dir/plain,$dir/absent"
refuse "a deep ensemble with noise" 2 "--flatness: expected with one file" run --weights "$dir/plain,$dir/second" --flatness 0.1
refuse "a deep ensemble of two nets" 2 "is it the same net?" run --weights "$dir/wide,$dir/plain"
refuse "a deep ensemble of two normalisations" 2 "expected images normalised as those of" run --weights "$dir/plain,$dir/shifted"
refuse "too many files" 2 "--weights: expected 16 or fewer files" run --weights "$(seq -s, 17)"
refuse "sigma 0" 2 "--flatness '0.1,0': expected" run --flatness 0.1,0
refuse "sigma that is none" 2 "--flatness '0.1,': expected" run --flatness 0.1,
refuse "too many sigmas" 2 "16 or fewer" run --flatness 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
refuse "flatness without training images" 2 "data_batch_1.bin: no such file" \
    "$measure" --data "$dir/other" --weights "$dir/late" --flatness 0.1
refuse "mean without std" 2 "--mean and --std" run --mean 0.5,0.5,0.5
refuse "two numbers as mean" 2 "--mean and --std" run --mean 0.5,0.5 --std 1,1,1
refuse "std 0" 2 "--std '1,0,1'" run --mean 0,0,0 --std 1,0,1
refuse "a name that would break rows" 2 "--run 'a,b'" run --run a,b
refuse "unwritable CSV" 2 "$dir/none/x/y: cannot" run --csv "$dir/none/x/y"
printf 'epoch,lr\n1,2\n' >"$dir/foreign"
refuse "another CSV file" 2 "its first line is 'epoch,lr', expected 'run,model," run --csv "$dir/foreign"
same "which stays as it was" "$(cat "$dir/foreign")" "$(printf 'epoch,lr\n1,2\n')"
refuse "passes without dropout" 2 "--mc-dropout 3: expected --dropout" run --mc-dropout 3
refuse "more validation than there is" 2 "--validation 40: expected fewer than the 40" run --validation 40
refuse "unknown option" 2 "unknown option '--speed'" run --speed 1
refuse "a set without a place" 2 "--ood mnist: expected mnist=PATH" run --ood mnist
refuse "an empty place" 2 "--ood noise: expected noise=PATH" run --ood noise=
refuse "a set without a name" 2 "--ood '=x'" run --ood =x
refuse "an empty item" 2 "--ood ''" run --ood noise,
refuse "a strange name" 2 "--ood 'a b=x'" run --ood "a b=x"
refuse "a name twice" 2 "the name noise is used twice" run --ood noise,noise
refuse "the name of the test images" 2 "the name test is used twice" run --ood "test=$dir/other"
refuse "more sets than there is room" 2 "more than 16" \
    run --ood "noise$(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do printf ',a%d=%s' $i "$dir/other"; done)"
refuse "a missing set" 2 "--ood a=$dir/absent: No such file" run --ood "a=$dir/absent"
refuse "a directory without images" 2 "expected test_batch.bin or test.bin" run --ood "a=$dir/none"
refuse "a set that is cut off" 2 "truncated?" run --ood "a=$dir/cut"
refuse "no published files" 2 "none of the files gaussian_noise.npy" run --corrupted "$dir/none"

# ---- .npy files that are none; each from a good one
pixels <"$dir/other/test_batch.bin" >"$dir/pixels"
same "as many pixels" "$(wc -c <"$dir/pixels" | tr -d ' ')" 92160
good=$(dictionary '|u1' False '30, 32, 32, 3')
npy "$good" <"$dir/pixels" >"$dir/good.npy"
# spoilt NAME WORDS: bad.npy is refused with these words.
spoilt() { refuse "npy: $1" 2 "$2" run --ood "a=$dir/bad.npy"; }
headed() { npy "$3" <"$dir/pixels" >"$dir/bad.npy"; spoilt "$1" "$2"; }
printf 'x' >"$dir/bad.npy"
spoilt "a byte" "this is no .npy file"
printf '' >"$dir/bad.npy"
spoilt "nothing" "this is no .npy file"
tr N M <"$dir/good.npy" >"$dir/bad.npy"
spoilt "another magic" "this is no .npy file"
{ printf '\223NUMPY\004\000'; tail -c +9 "$dir/good.npy"; } >"$dir/bad.npy"
spoilt "version 4" "version 4.0 of .npy"
{ printf '\223NUMPY\001\001'; tail -c +9 "$dir/good.npy"; } >"$dir/bad.npy"
spoilt "version 1.1" "version 1.1 of .npy"
head -c 40 "$dir/good.npy" >"$dir/bad.npy"
spoilt "half a header" "ends within its header"
printf '\223NUMPY\002\000\001\000\000' >"$dir/bad.npy"
spoilt "half a length" "ends within its header"
{ printf '\223NUMPY\002\000\000\000\001\000'; cat "$dir/good.npy"; } >"$dir/bad.npy"
spoilt "a long header" "header of 65536 bytes"
headed "no dictionary" "no dictionary" "[1, 2]"
headed "no shape" "no dictionary" "{'descr': '|u1', 'fortran_order': False, }"
headed "a key twice" "no dictionary" "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (30, 32, 32, 3), }"
headed "an unknown key" "no dictionary" "{'descr': '|u1', 'order': 1, 'fortran_order': False, 'shape': (30, 32, 32, 3), }"
headed "text behind it" "no dictionary" "$good 7"
headed "no comma" "no dictionary" "{'descr': '|u1' 'fortran_order': False, 'shape': (30, 32, 32, 3), }"
headed "a negative size" "no dictionary" "$(dictionary '|u1' False '-30, 32, 32, 3')"
headed "five dimensions" "no dictionary" "$(dictionary '|u1' False '30, 32, 32, 3, 1')"
headed "a size without end" "no dictionary" "$(dictionary '|u1' False '1000000000000000000000, 32, 32, 3')"
headed "sizes without comma" "no dictionary" "$(dictionary '|u1' False '30 32, 32, 3')"
headed "neither true nor false" "no dictionary" "$(dictionary '|u1' Maybe '30, 32, 32, 3')"
headed "Fortran's order" "Fortran's order" "$(dictionary '|u1' True '30, 32, 32, 3')"
headed "floats" "'<f4', expected little-endian integers" "$(dictionary '<f4' False '30, 32, 8, 3')"
headed "big-endian" "'>i2', expected little-endian" "$(dictionary '>i2' False '15, 32, 32, 3')"
headed "two bytes without order" "'|i2', expected little-endian" "$(dictionary '|i2' False '15, 32, 32, 3')"
headed "a byte with order" "'<u1', expected little-endian" "$(dictionary '<u1' False '30, 32, 32, 3')"
headed "a list of types" "no dictionary" "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (30, 32, 32, 3), }"
headed "too few bytes" "92160 bytes behind the header, expected 95232" "$(dictionary '|u1' False '31, 32, 32, 3')"
headed "too many bytes" "92160 bytes behind the header, expected 89088" "$(dictionary '|u1' False '29, 32, 32, 3')"
headed "a huge shape" "too large" "$(dictionary '|u1' False '999999999999, 999999999999, 9, 9')"
headed "no pictures" "'<i2' [30, 32, 16, 3], expected pictures" "$(dictionary '<i2' False '30, 32, 16, 3')"
headed "planes" "'|u1' [30, 3, 32, 32], expected pictures" "$(dictionary '|u1' False '30, 3, 32, 32')"
npy "$(dictionary '|u1' False '0, 32, 32, 3')" </dev/null >"$dir/bad.npy"
spoilt "no picture" "0 pictures, expected 1 to"
mkdir "$dir/d.npy"
refuse "npy: a directory" 2 "expected test_batch.bin or test.bin" run --ood "a=$dir/d.npy"

# ---- the numbers
fresh
accept "all" '^result dataset=cifar10 net=wrn-10-1 members=2 .* auroc_same=0.5000 .* auroc_noise=[0-9.]+ corruption_error=' \
    run --run first --csv "$dir/csv" --reliability --histograms --corruptions --flatness 1e-7,0.5 --draws 3 \
    --ood "same=$dir/data,other=$dir/other,npy=$dir/good.npy,records=$dir/other/test_batch.bin,hundred=$dir/hundred,noise"
cp "$dir/csv" "$dir/first"
same "accuracy, as training says" "$(value test_acc)" "$(sed -n 's/^result.* test_acc=\([0-9.]*\).*/\1/p' "$dir/trained")"
same "NLL, as training says" "$(value test_nll)" "$(sed -n 's/^result.* test_nll=\([0-9.]*\).*/\1/p' "$dir/trained")"
same "the ensemble's accuracy" "$(value ensemble_acc)" "$(sed -n 's/^result.* ensemble_acc=\([0-9.]*\).*/\1/p' "$dir/trained")"
for m in averaged member1 member2 ensemble; do
    same "$m: AUROC of a set and itself" "$(number first,$m auroc same '')" 0.5
    other=$(number first,$m auroc other '')
    same "$m: .npy and directory" "$other" "$(number first,$m auroc npy '')"
    same "$m: records and directory" "$other" "$(number first,$m auroc records '')"
    if [ "$other" != 0.5 ]; then ok; else bad "$m: another set has another AUROC"; fi
    # what the rows of one metric say together
    awk -F, -v m=$m '$2 != m { next }
        $3 == "accuracy" && $4 !~ /test/ { error += 100 - $6; sets++ }
        $3 == "mean_corruption_error" { want = $6 }
        $3 == "bin_images" { n[$5] = $6; all += $6 }
        $3 == "bin_accuracy" { a[$5] = $6 }
        $3 == "bin_confidence" { d = a[$5] - $6; gap += n[$5] * (d < 0 ? -d : d) / 100 }
        $3 == "ece" && $4 == "test" { ece = $6 }
        $3 == "entropy_share" { share[$4] += $6; bins++ }
        function near(x, y) { return x - y < 1e-6 && y - x < 1e-6 }
        END { for (s in share) { sum += share[s]; k++ }
            print sets == 35 && near(error / sets, want), all == 20 && near(gap / all, ece), bins == 210 && k == 7 && near(sum, 700) }' \
        "$dir/csv" >"$dir/sums"
    same "$m: mean error, ECE, histograms" "$(cat "$dir/sums")" "1 1 1"
done
# From the histograms of two sets, p and q, the AUROC is sum_b q_b (p_below + p_b / 2), but for the order
# within the bins: sum_b p_b q_b / 2.  One set at least is told apart by more than that.
awk -F, '$2 == "averaged" && $3 == "auroc" { auroc[$4] = $6 }
    $2 == "averaged" && $3 == "entropy_share" { n[$4]++; share[$4, n[$4]] = $6 / 100 }
    END { for (s in auroc) { below = sum = slack = 0; sets++
            for (b = 1; b <= 30; b++) { p = share["test", b]; q = share[s, b]
                sum += q * (below + p / 2); below += p; slack += p * q / 2 }
            d = sum - auroc[s]; if (d > slack + 1e-6 || -d > slack + 1e-6) wrong++
            d = auroc[s] - 0.5; if (d > slack || -d > slack) told++ }
        print sets, wrong + 0, (told > 0) }' "$dir/csv" >"$dir/sums"
same "AUROC and histograms" "$(cat "$dir/sums")" "6 0 1"
awk -F, '{ v[$2 "," $3 "," $4 "," $5] = $6 }
    END { for (k in v) { i = index(k, ","); if (substr(k, 1, i - 1) == "members") { r = substr(k, i); n++
        d = (v["member1" r] + v["member2" r]) / 2 - v[k]; if (d > 1e-6 || d < -1e-6) wrong++ } } print (n > 100), wrong + 0 }' \
    "$dir/csv" >"$dir/sums"
same "members: the mean of both" "$(cat "$dir/sums")" "1 0"
awk -F, '$3 == "flatness" && $2 == "averaged" { v[$5] = $6 }
    END { small = v["1e-07"]; print (small < 1e-3 && small > -1e-3 && v["0.5"] > 0.01) }' "$dir/csv" >"$dir/sums"
same "flatness: little noise, little rise" "$(cat "$dir/sums")" 1
same "a header" "$(head -n 1 "$dir/csv")" run,model,metric,set,strength,value

# a deep ensemble: the members' numbers are those of the nets alone; the ensemble's, what training says
cp "$dir/plain" "$dir/deep1"
cp "$dir/second" "$dir/deep2"
fresh
for net in deep1 deep2 deep1,$dir/deep2; do
    case $net in *,*) members=2 ;; *) members=1 ;; esac
    accept "measured: $net" "^result .* members=$members .* auroc_noise=" with "$net" --csv "$dir/csv" --reliability --histograms \
        --corruptions --ood noise
done
if grep -q '^(the deep ensemble; --csv' "$dir/out"; then ok; else bad "tables of the deep ensemble"; fi
"$cifar" --data "$dir/data" --net wrn-10-1 --half --late none --eval --ensemble 2 --weights "$dir/deep%d" --quiet >"$dir/deep"
same "the deep ensemble, as training says" \
    "$(value ensemble_acc | awk '{ printf "%.2f", $1 }') $(value ensemble_nll)" \
    "$(awk '/^deep ensemble of 2/ { print $(NF - 1), $NF }' "$dir/deep")"
same "which is the model of the result" "$(value test_acc) $(value test_nll)" "$(value ensemble_acc) $(value ensemble_nll)"
awk -F, 'NR == 1 { next } $1 == "deep-ensemble" { rows++; deep[$2 "," $3 "," $4 "," $5] = $6; next } { alone[$1 "," $3 "," $4 "," $5] = $6 }
    END { for (k in alone) { m = k; sub("deep", "member", m); n++; if (deep[m] != alone[k]) wrong++ }
        for (k in deep) if (k ~ /^averaged/) wrong++
        print (n > 300), (rows > n), wrong + 0, (deep["members,auroc,noise,"] > 0) }' "$dir/csv" >"$dir/sums"
same "a deep ensemble's rows" "$(cat "$dir/sums")" "1 1 0 1"

# the same rows whatever computes them; behind those there are, under one header
again() {
    fresh
    "$measure" --data "$dir/data" --weights "$dir/late" --quiet --run first --csv "$dir/csv" --reliability --histograms \
        --corruptions --flatness 1e-7,0.5 --draws 3 "$@" \
        --ood "same=$dir/data,other=$dir/other,npy=$dir/good.npy,records=$dir/other/test_batch.bin,hundred=$dir/hundred,noise" \
        >"$dir/out" 2>"$dir/err" || bad "again: $*"
    if cmp -s "$dir/csv" "$dir/first"; then ok; else bad "other rows with $*"; fi
}
again --threads 1
if run --isa scalar-fma >"$dir/out" 2>"$dir/err"; then again --threads 2 --isa scalar-fma
else echo "skipped: no scalar-fma here"; fi
fresh
accept "a run" '^result' run --csv "$dir/csv"
accept "another run" '^result' run --csv "$dir/csv" --run two
same "rows are appended" "$(grep -c . "$dir/csv") $(grep -c '^late,' "$dir/csv") $(grep -c '^two,' "$dir/csv")" "41 20 20"
accept "a checkpoint" '^result .* members=2 ' with late.ck --csv "$dir/csv"
same "is measured as its model" "$(number late.ck,ensemble nll test '')" "$(number late,ensemble nll test '')"
accept "a plain checkpoint" '^result .* members=1 ' with plain.ck --csv "$dir/csv"
accept "a single model" '^result dataset=cifar10 net=wrn-10-1 members=1' with plain --csv "$dir/csv" --run p --flatness 0.1
same "is that of its checkpoint" "$(number p,single nll test '')" "$(number plain.ck,single nll test '')"
same "has no other rows" "$(grep -c '^p,single,' "$dir/csv") $(grep -c '^p,' "$dir/csv")" "7 7"
accept "another seed, other noise" '^result' with plain --csv "$dir/csv" --run q --flatness 0.1 --seed 2
if [ "$(number p,single flatness train 0.1)" != "$(number q,single flatness train 0.1)" ]; then ok
else bad "the seed changes no noise"; fi
accept "two noises" '^result' with plain --csv "$dir/csv" --run x --flatness 0.3,0.5 --draws 2
accept "one of them" '^result' with plain --csv "$dir/csv" --run y --flatness 0.5 --draws 2
same "do not add up" "$(number x,single flatness train 0.5)" "$(number y,single flatness train 0.5)"
accept "another normalisation" '^result' with plain --csv "$dir/csv" --run r --mean 0.5,0.5,0.5 --std 0.2,0.2,0.2
if [ "$(number p,single nll test '')" != "$(number r,single nll test '')" ]; then ok; else bad "--mean changes nothing"; fi
accept "huge inputs" '^result' with plain --csv "$dir/csv" --run w --histograms --mean 0,0,0 --std 1e-6,1e-6,1e-6
same "a sure net is in the first bin" "$(awk -F, '$1 == "w" && $3 == "entropy_share" { n += $6; if ($6 > 0 && !first) first = $5 }
    END { print (n > 99.99 && n < 100.01 && first < 0.1) }' "$dir/csv")" 1
accept "fewer test images" '^result' with plain --csv "$dir/csv" --run s --limit-test 9 --ood noise --reliability
same "so many" "$(awk -F, '$1 == "s" && $3 == "bin_images" { n += $6 } END { print n }' "$dir/csv")" 9
accept "dropout" '^result' with plain --csv "$dir/csv" --run t --dropout 0.3
same "alone is nothing" "$(number t,single nll test '')" "$(number p,single nll test '')"
accept "MC dropout" '^result' with plain --csv "$dir/csv" --run u --dropout 0.3 --mc-dropout 3
if [ "$(number u,single nll test '')" != "$(number p,single nll test '')" ]; then ok; else bad "--mc-dropout changes nothing"; fi
# A state from before T0 has no members, whatever its options say.
"$cifar" --data "$dir/data" --net wrn-10-1 --half --batch 16 --quiet --members 2 --t0 9000 --epochs 9001 \
    --checkpoint "$dir/early" --checkpoint-minutes 0 >"$dir/out" 2>"$dir/err" &
until [ -f "$dir/early" ] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
kill $!
wait $! 2>/dev/null
refuse "a state from before T0" 2 "expected --members 1" with early
accept "as the one model that it is" '^result .* members=1 ' with early --members 1

# A net that was trained with dropout says the same with minibatches of any size, in both programs.
train --members 2 --dropout 0.3 --mc-dropout 3 --seed 5 --save "$dir/drop" --save-members >"$dir/trained.drop" 2>"$dir/err" \
    || bad "training with dropout"
train --late none --dropout 0.2 --mc-dropout 3 --ensemble 2 --seed 8 --save "$dir/drop%d" >"$dir/trained.deep" 2>"$dir/err" \
    || bad "a deep ensemble with dropout"
mc() { sed -n 's/^MC dropout, 3 passes .* \([0-9.]*\)$/\1/p' "$1"; }
accept "MC dropout of a saved model" '^result' "$cifar" --data "$dir/data" --eval --weights "$dir/drop" --mc-dropout 3 --batch 7
same "whatever the minibatch" "$(mc "$dir/out")" "$(mc "$dir/trained.drop")"
accept "MC dropout, as the file says" '^result' with drop --mc-dropout 3 --batch 11
same "with the masks of its seed" "$(value test_nll)" "$(mc "$dir/trained.drop")"

accept "MC dropout of a deep ensemble" '^result' with "drop8,$dir/drop9" --mc-dropout 3
forth=$(sed -n 's/^ensemble  *[0-9.]*  *//p' "$dir/out")
same "each net has its own masks" "$(sed -n 's/^member [12]  *[0-9.]*  *\([0-9.]*\).*/\1/p' "$dir/out" | tr '\n' ' ')" \
    "$(mc "$dir/trained.deep" | tr '\n' ' ')"
accept "in whatever order" '^result' with "drop9,$dir/drop8" --mc-dropout 3
same "they say the same together" "$(sed -n 's/^ensemble  *[0-9.]*  *//p' "$dir/out")" "$forth"

# The average of a BatchEnsemble is no model: nothing is said of it.
train --late batchensemble --members 2 --t0 0 --epochs 40 --batch 8 --lr 0.03 --dropout 0.2 --mc-dropout 3 --confusion \
    --save "$dir/signs" --save-members >"$dir/trained.signs" 2>"$dir/err" || bad "training of a BatchEnsemble"
cp "$dir/trained.signs" "$dir/out"
signs_nll=$(value test_nll) signs_acc=$(value test_acc) signs_mc=$(mc "$dir/out")
same "right, of all classes" "$(awk '/^class +images/ { on = 1; next } on && /^class/ { n += $3; right += $3 * $4 / 100 }
    END { printf "%.2f", 100 * right / n }' "$dir/out")" "$signs_acc"
accept "BatchEnsemble" '^result' with signs --csv "$dir/csv" --run z --ood noise --reliability
same "the ensemble" "$(value test_acc) $(value test_nll)" "$signs_acc $signs_nll"
same "... and no average" "$(grep -c '^z,averaged' "$dir/csv") $(grep -c '^averaged' "$dir/out")" "0 0"
accept "BatchEnsemble with dropout" '^result' with signs --mc-dropout 3
same "its MC dropout" "$(value test_nll)" "$signs_mc"
refuse "one member of it" 2 "--members 1: expected two or more" with signs --members 1
refuse "its flatness" 2 "expected another family than batchensemble" with signs --flatness 0.1
accept "validation images" '^result' with plain --csv "$dir/csv" --run v --validation 12 --reliability --flatness 0.1
same "so many validation images" "$(awk -F, '$1 == "v" && $3 == "bin_images" { n += $6 } END { print n }' "$dir/csv")" 12
accept "help" 'this text$' "$measure" --help

# ---- published corruptions: here five times the test images themselves
mkdir "$dir/published"
pixels <"$dir/data/test_batch.bin" >"$dir/once"
for i in 1 2 3 4 5; do cat "$dir/once"; done >"$dir/five"
npy "$(dictionary '|u1' False '100, 32, 32, 3')" <"$dir/five" >"$dir/published/fog.npy"
npy "$(dictionary '|u1' False '100, 32, 32, 3')" <"$dir/five" >"$dir/published/saturate.npy"
published() { run --corrupted "$dir/published" "$@"; }
refuse "no labels" 2 "labels.npy: cannot be read: No such file" published
# labels DESCR BYTES COUNT: of the test images, again and again
labels() {
    awk -v n="$3" 'BEGIN { for (i = 0; i < n; i++) printf "%c", 1 + i % 20 % 9 }' \
        | if [ "$2" -eq 1 ]; then cat; else od -An -v -tu1 | tr -s ' ' '\n' | grep . \
            | while read -r l; do printf "\\$(printf %o "$l")"; head -c $(($2 - 1)) /dev/zero; done; fi \
        | npy "$(dictionary "$1" False "$3,")" >"$dir/published/labels.npy"
}
for type in "|u1 1" "<i8 8" "<u4 4"; do
    labels "${type% *}" "${type#* }" 100
    fresh
    accept "published files, labels ${type% *}" '^result .* published_error=' published --csv "$dir/csv"
    for v in 1 2 3 4 5; do
        for f in fog saturate; do
            same "$f $v" "$(number late,ensemble nll "published\/$f" $v)" "$(number late,ensemble nll test '')"
        done
    done
    awk -F, '$2 == "averaged" && $3 == "accuracy" && $4 == "test" { a = $6 }
        $2 == "averaged" && $3 == "mean_corruption_error" { d = 100 - a - $6; print d * d < 1e-9 }' "$dir/csv" >"$dir/sums"
    same "their mean error" "$(cat "$dir/sums")" 1
    if grep -q '^(of 1 of the 15 ' "$dir/out"; then ok; else bad "saturate does not count"; fi
done
labels '|u1' 1 90
refuse "fewer labels" 2 "labels.npy: an array [90], expected labels [100]" published
labels '|u1' 1 100
{ head -c 150 "$dir/published/labels.npy"; printf '\012'; tail -c +152 "$dir/published/labels.npy"; } >"$dir/made"
cp "$dir/made" "$dir/published/labels.npy"
refuse "a label that is none" 2 "is 10, expected 0 to 9" published
labels '|i1' 1 100
{ head -c 150 "$dir/published/labels.npy"; printf '\377'; tail -c +152 "$dir/published/labels.npy"; } >"$dir/made"
cp "$dir/made" "$dir/published/labels.npy"
refuse "a negative label" 2 "is -1, expected 0 to 9" published
head -c 64512 "$dir/five" | npy "$(dictionary '|u1' False '21, 32, 32, 3')" >"$dir/published/fog.npy"
refuse "strengths that differ in number" 2 "fog.npy: 21 pictures, expected the same number" published

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
