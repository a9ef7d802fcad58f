#!/bin/sh
# quadratic: simulation, formulas and a covariance recursion of our own agree; the loss falls as K grows; the
# same bits again; bad options get one line and exit code 2.
# usage: tests/quadratic.sh QUADRATIC
set -u
LC_ALL=C
export LC_ALL
quadratic=$1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1
eta=0.2 n=20
short() { "$quadratic" --eta $eta --dimensions $n --steps 1000 --runs 20 "$@"; }
# table NAME PROGRAM: of the lines of the CSV file; the awk program calls no() to object.
table() {
    if awk -F, -v eta=$eta -v n=$n "function no() { bad = 1; exit }
        $2"' END { exit bad }' "$dir/csv" >"$dir/err" 2>&1; then ok; else bad "$1"; fi
}

accept "a short run" '^result problem=quadratic k=25 excess=0\.[0-9]+ closed_form=0\.[0-9]+$' \
    short --steps 4000 --csv "$dir/csv"
cp "$dir/out" "$dir/first"
same "one result for each K" "$(sed -n 's/^result .* k=\([0-9]*\) .*/\1/p' "$dir/out" | tr '\n' ' ')" "1 2 5 10 25 "
same "columns" "$(head -n 1 "$dir/csv")" "model,members,excess,standard_error,closed_form"
same "rows" "$(cut -d, -f1 "$dir/csv" | uniq -c | tr -s ' \n' ' ')" \
    " 1 model 1 sgd 1 swa 5 additive 5 multiplicative "
table "closed forms, computed again" '
    function off(x, y) { return x / y > 1 + 1e-7 || x / y < 1 - 1e-7 }
    $1 == "sgd" { s = 0; for (i = 1; i <= n; i++) { a = eta / i; s += a / (2 - a) / 2 }; if (off($5, s)) no(); seen++ }
    $1 == "additive" { s = 0; for (i = 1; i <= n; i++) { a = eta / i; s += a / (1 - a) / 2 / $2 }
        if (off($5, s)) no(); seen++ }
    END { if (seen != 6) bad = 1 }'
table "simulations and closed forms" '
    NR > 1 && $5 > 0 { d = $3 - $5; if (d * d > 16 * $4 * $4) no(); seen++ } END { if (seen != 6) bad = 1 }'
table "errors that say something" 'NR > 1 { if ($4 <= 0 || $4 > $3 / 10) no(); seen++ } END { if (seen != 12) bad = 1 }'
table "the loss falls as K grows" '
    /additive|multi/ { if ($1 == last && $3 + 4 * $4 > loss) no(); last = $1; loss = $3; seen++ } END { if (seen != 10) bad = 1 }'
# All (K + 1)^2 covariances of theta, phi_1 .. phi_K: C <- A C A^T + s B B^T, no symmetry used.
table "covariances of all weights, iterated" '
    function turn(a, K, s,    i, j, k) {
        for (i = 0; i <= K; i++) for (j = 0; j <= K; j++) { A[i, j] = i == j; B[i, j] = 0 }
        A[0, 0] -= a
        for (k = 1; k <= K; k++) { A[0, k] -= a / K; A[k, 0] -= a; A[k, k] -= a; B[0, k] = a / K; B[k, k] = a }
        for (i = 0; i <= K; i++) for (j = 0; j <= K; j++) { M[i, j] = 0; for (k = 0; k <= K; k++) M[i, j] += A[i, k] * C[k, j] }
        for (i = 0; i <= K; i++) for (j = 0; j <= K; j++) { C[i, j] = 0
            for (k = 0; k <= K; k++) C[i, j] += M[i, k] * A[j, k] + s * B[i, k] * B[j, k] } }
    $1 == "additive" && $2 <= 2 { K = $2; excess = 0
        for (d = 1; d <= n; d++) {
            for (i = 0; i <= K; i++) for (j = 0; j <= K; j++) C[i, j] = 0
            for (t = 12 * d / eta; t > 0; t--) turn(eta / d, K, d)
            v = 0
            for (i = 0; i <= K; i++) for (j = 0; j <= K; j++) v += C[i, j] / (i ? K : 1) / (j ? K : 1)
            excess += v / d / 2 }
        r = excess / $5; print K, r; if (r > 1 + 1e-8 || r < 1 - 1e-8) no(); seen++ }
    END { if (seen != 2) bad = 1 }'
if grep -q '^ 25  *0.076923  *0.076923  *1.000000  *1.000000$' "$dir/first"; then ok; else bad "largest stable rates"; fi
if grep -q 'less than 1e-10 from the formula' "$dir/first" && grep -q 'keeps its first value' "$dir/first"; then ok
else bad "the exact recursion"; fi

# Of the lines below "additive, gamma = 1": b = (1 + K) eta / i.
if awk -v eta=$eta -v n=$n '/^additive, gamma = 1/ { on = 1; next }
    on && NF == 2 { K = $1; s = 0; for (i = 1; i <= n; i++) { b = (1 + K) * eta / i; s += b / (2 - b) / K / 2 }
        if (eta * (1 + K) >= 2 ? $2 != "diverges" : $2 - s > 1e-6 || s - $2 > 1e-6) exit 1
        seen++ }
    on && NF == 0 { exit }
    END { exit seen != 5 }' "$dir/first"; then ok; else bad "closed forms at gamma = 1"; fi

accept "once" '^result ' short
cp "$dir/out" "$dir/first"
accept "again" '^result ' short
if cmp -s "$dir/out" "$dir/first"; then ok; else bad "not the same again"; fi
accept "quiet" '^result ' short --quiet
same "quiet: the results alone" "$(cat "$dir/out")" "$(tail -n 5 "$dir/first")"
accept "another seed" '^result ' short --seed 2
if cmp -s "$dir/out" "$dir/first"; then bad "the seed has no effect"; else ok; fi
short --eta 0.4 --csv "$dir/double" --quiet >"$dir/out" 2>"$dir/err"
same "K = 1 is SGD at twice the rate" "$(sed -n 's/^additive,1,.*,//p' "$dir/csv")" \
    "$(sed -n 's/^sgd,1,.*,//p' "$dir/double")"

accept "a rate at the edge" '^result ' "$quadratic" --eta 0.99 --dimensions 2 --steps 2000 --runs 20
accept "a small rate" '^result ' "$quadratic" --eta 0.01 --dimensions 30 --steps 500 --runs 10

refuse "a rate without a steady state" 2 "--eta '1': expected a number from 0.01 to 0.99" "$quadratic" --eta 1
refuse "no rate" 2 "--eta 'nan': expected a number" "$quadratic" --eta nan
refuse "no dimension" 2 "--dimensions '0': expected a whole number from 1 to 200" "$quadratic" --dimensions 0
refuse "no step" 2 "--steps '0': expected" "$quadratic" --steps 0
refuse "too few runs for an error" 2 "--runs '2': expected a whole number from 10" "$quadratic" --runs 2
refuse "a seed below 0" 2 "--seed '-1': expected" "$quadratic" --seed -1
refuse "a missing value" 2 "--csv: the value is missing" "$quadratic" --csv
refuse "an unwritable file" 2 "--csv $dir/absent/x: cannot be written" "$quadratic" --csv "$dir/absent/x"
refuse "an unknown option" 2 "unknown option '--epochs'" "$quadratic" --epochs 3
accept "help" '\-\-help' "$quadratic" --help
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
