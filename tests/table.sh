#!/bin/sh
# table and predict: what one saves the other loads, and bad input gets one line that names the thing
# and exit code 2.
# usage: tests/table.sh TABLE PREDICT
set -u
LC_ALL=C
export LC_ALL
table=$1 predict=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1
learn() { "$table" "$dir/$1" --epochs 20 --quiet --save "$dir/m" --test-rows "$dir/t"; }

# ---- there and back: predict says of the test rows what table said
# above KEY LEAST: the result's value is that large.
above() { if value "$1" | awk -v least="$2" '{ exit !($1 >= least) }'; then ok; else bad "$1 below $2"; fi; }
accept "spirals" '^result model=table test_acc=[0-9.]+ test_nll=[0-9.]+ rows=1500 inputs=2 classes=3 members=7 seed=1$' \
    "$table" --save "$dir/spirals" --test-rows "$dir/t"
above test_acc 90
acc=$(value test_acc)
accept "spirals, predicted" '^result model=table rows=300 acc=' "$predict" "$dir/spirals" "$dir/t"
same "accuracy" "$(value acc)" "$acc"
if grep -qE '^(red|green|blue),[01]\.[0-9]{4}$' "$dir/out"; then ok; else bad "a row's class and probability"; fi
sed '$d' "$dir/out" >"$dir/with"
cut -d, -f1,2 "$dir/t" >"$dir/u"
accept "without the classes" '^result model=table rows=300$' "$predict" "$dir/spirals" "$dir/u"
sed '$d' "$dir/out" >"$dir/without"
if cmp -s "$dir/with" "$dir/without"; then ok; else bad "the same predictions without the classes"; fi
accept "regression" '^result .* classes=0 ' "$table" --regression --quiet --save "$dir/r" --test-rows "$dir/t"
above explained 0.9
rmse=$(value test_rmse)
accept "regression, predicted" '^result model=table rows=300 rmse=' "$predict" "$dir/r" "$dir/t"
same "error" "$(value rmse)" "$rmse"

# ---- CSV as it occurs: byte order mark, CRLF, blanks, quotes, an empty line, a column of one value
awk 'BEGIN { printf "\357\273\277size, \"say \"\"kind\"\"\" ,one\r\n\r\n"
    kind[0] = "\303\244"; kind[1] = " c "; kind[2] = "a, b"
    for (i = 0; i < 200; i++) printf "%.3e , \"%s\",7\r\n", i % 7 + i % 3 * 10, kind[i % 3] }' >"$dir/odd.csv"
accept "odd CSV" ' rows=200 inputs=2 classes=3 ' "$table" "$dir/odd.csv" --label 'say "kind"' --quiet --save "$dir/m" \
    --test-rows "$dir/t"
same "odd CSV is learnt" "$(value test_acc)" 100.00
accept "odd CSV, predicted" 'rows=200 acc=100.00$' "$predict" "$dir/m" "$dir/odd.csv"
accept "odd CSV, its test rows" 'rows=40 acc=100.00$' "$predict" "$dir/m" "$dir/t"
refuse "the columns in another order" 2 "line 1, column 1: 'one', expected 'size' as in training" \
    sh -c "printf 'one,size\n1,2\n' >$dir/c; $predict $dir/m $dir/c"
refuse "an unknown class" 2 "line 2, column 2 (say \"kind\"): 'd': expected a class of the model" \
    sh -c "printf '1,c,7\n1,d,7\n' | sed 's/,c,/,\" c \",/' >$dir/c; $predict $dir/m $dir/c"
refuse "too few cells to predict" 2 "line 1: 1 cells, expected 2, or 3" sh -c "echo 1 >$dir/c; $predict $dir/m $dir/c"
refuse "a header alone" 2 "a header and no rows" sh -c "echo size,one >$dir/c; $predict $dir/m $dir/c"
awk 'BEGIN { for (i = 0; i < 50; i++) print i % 2 + 1e9 "," i % 2 }' >"$dir/bare.csv"
accept "no header" 'test_acc=100.00 .* rows=50 inputs=1 classes=2 ' learn bare.csv
accept "no header, predicted" 'rows=50 acc=100.00$' "$predict" "$dir/m" "$dir/bare.csv"

# Classes that mean nothing: what has not been trained on is not known.
awk 'BEGIN { s = 1
    for (i = 1; i <= 20 * 300; i++) { s = s * 16807 % 2147483647
        if (i % 20) printf "%d,", s % 997; else print int(s / 65536) % 2 } }' >"$dir/c"
accept "noise" 'rows=300 inputs=19 ' "$table" "$dir/c" --quiet
if value test_acc | awk '{ exit !($1 > 25 && $1 < 75) }'; then ok; else bad "noise is known: $(value test_acc) %"; fi

# ---- bad cells: the place is named.  bad_row NAME WORDS LINE: in a good table, as line 4.
bad_row() {
    { printf 'a,b,kind\n1,2,x\n3,4,y\n'; printf "$3\n"; yes '1,3,x' | head -n 20; } >"$dir/c"
    refuse "$1" 2 "$2" learn c
}
bad_row "a word" "line 4, column 2 (b): 'many': expected a number" '1,many,x'
bad_row "an empty cell" "line 4, column 1 (a): '': expected a number" ',2,x'
bad_row "NaN" "line 4, column 1 (a): 'nan': expected a number" 'nan,2,x'
bad_row "infinity" "line 4, column 2 (b): '1e999': expected a number" '1,1e999,x'
bad_row "hexadecimal" "line 4, column 2 (b): '0x10': expected a number" '1,0x10,x'
bad_row "an empty class" "line 4, column 3 (kind): '': expected a class" '1,2,'
bad_row "a cell too few" "line 4: 2 cells, expected 3" '1,2'
bad_row "a cell too many" "line 4: 4 cells, expected 3" '1,2,x,y'
bad_row "an open quote" "line 4: a quote is not closed" '1,2,"x'
bad_row "an open quote at the end" "line 4: a quote is not closed" '1,2,"x""'
bad_row "text behind a quote" "line 4: 'y' behind a closing quote" '1,2,"x"y'
bad_row "Latin-1" "line 4: not UTF-8" '1,2,\344'
bad_row "cut UTF-8" "line 4: not UTF-8" '1,2,\303'
bad_row "a zero byte" "line 4: longer than 65534 bytes, or not text" '1,2,\000x'
{ echo 1,2; head -c 70000 /dev/zero | tr '\0' 1; echo; } >"$dir/c"
refuse "a long line" 2 "line 2: longer than 65534 bytes, or not text" learn c
yes 1, | head -n 300 | tr -d '\n' >"$dir/c"
refuse "many columns" 2 "line 1: more than 257 cells" learn c
awk 'BEGIN { for (i = 0; i < 300; i++) print i ",x" i }' >"$dir/c"
refuse "many classes" 2 "line 101, column 2: 'x100': expected at most 100 classes" learn c
yes 1,2 | head -n 20 >"$dir/c"
refuse "one class" 2 "c: one class, expected at least two" learn c
printf '1,x\n2,y\n' >"$dir/c"
refuse "two rows" 2 "2 rows, expected at least 5" learn c
printf 'a,b\n' >"$dir/c"
refuse "a header and no rows" 2 "0 rows" "$table" "$dir/c" --regression
: >"$dir/c"
refuse "an empty file" 2 "c: the file is empty" learn c
printf '1\n2\n' >"$dir/c"
refuse "one column" 2 "c: one column, expected several, separated by commas" learn c
refuse "a missing file" 2 "absent: No such file or directory" learn absent
refuse "a directory" 2 "Is a directory" learn .
refuse "no such label" 2 "--label kind: no such name in line 1" "$table" "$dir/bare.csv" --label kind
refuse "a class for a number" 2 "column 2: 'a, b': expected a number" \
    sh -c "sed 's/,7//' $dir/odd.csv | tail -n +5 >$dir/c; $table $dir/c --regression"
for sizes in 0 257 32, ,32 32,,32 1,1,1,1,1 32x -3; do
    refuse "--hidden $sizes" 2 "--hidden $sizes: expected 1 to 4 numbers from 1 to 256" "$table" --hidden "$sizes"
done
refuse "two files" 2 "expected one FILE.csv" "$table" a b

head -n 5 "$dir/bare.csv" >"$dir/c"
accept "five rows, most for the test" 'rows=5 inputs=1 classes=2' "$table" "$dir/c" --test 0.9 --quiet
yes 1,2 | head -n 20 >"$dir/c"
accept "a constant to predict" 'test_rmse=0 ' "$table" "$dir/c" --regression --quiet --lr 0 --save "$dir/m"
"$table" --epochs 1 --quiet --save "$dir/absent/m" >"$dir/out" 2>"$dir/err"
if [ $? -eq 2 ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -qF "$dir/absent/m" "$dir/err" \
    && ! grep -q '^result' "$dir/out"; then ok; else bad "an unwritable model"; fi

# ---- bad models
m=$dir/spirals
refuse "predict: no arguments" 2 "predict MODEL.safetensors FILE.csv" "$predict"
refuse "predict: a missing model" 2 "absent: No such file" "$predict" "$dir/absent" "$dir/t"
head -c 3000 "$m" >"$dir/c"
refuse "predict: a model cut short" 2 "c: " "$predict" "$dir/c" "$dir/t"
refuse "predict: no model" 2 "bare.csv: this is no safetensors file" "$predict" "$dir/bare.csv" "$dir/t"
head -c 5000000 /dev/zero >"$dir/c"
refuse "predict: a large file" 2 "c: more than 4194304 bytes" "$predict" "$dir/c" "$dir/t"
# changed WORDS FROM TO: of the same length, in the header
changed() {
    sed "s/$2/$3/" "$m" >"$dir/c"
    if cmp -s "$m" "$dir/c"; then bad "$2 is not in the model"; fi
    refuse "predict: $3" 2 "$1" "$predict" "$dir/c" "$dir/t"
}
changed 'model "tabel", expected "table"' '"table"' '"tabel"'
changed 'no metadata "model"' '"model"' '"modal"'
changed 'the metadata contradict themselves' '"32,32"' '"32x32"'
changed '"fc2' '"32,32"' '"32,31"'
changed 'the metadata contradict themselves' '"label":"2"' '"label":"3"'
changed '"mean" is not 3 numbers' '"mean":"-' '"mean":"x'
changed '"fc3.bia5", which the net has not' '"fc3.bias"' '"fc3.bia5"'

# ---- no allocation
if nm -u "$predict" >"$dir/out" 2>/dev/null && grep -q printf "$dir/out"; then
    if grep -E '[cmre]+alloc|free' "$dir/out" >"$dir/err"; then bad "predict allocates"; else ok; fi
else echo "skipped the symbols of predict: no nm, or a sanitizer's names"; fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
