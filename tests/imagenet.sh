#!/bin/sh
# examples/imagenet.c on made-up pictures: it learns, a run that was stopped and killed ends with the bits of
# one that was not, neither threads nor shards matter, top-5 is what counting gives, and bad input gets one
# line on stderr.
# usage: tests/imagenet.sh quick|full IMAGENET
set -u
LC_ALL=C
export LC_ALL
mode=$1 imagenet=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. "$(dirname "$0")/programs.sh" || exit 1
full() { [ "$mode" = full ]; }
test_is() { name=$1; shift; if "$@"; then ok; else bad "$name"; fi; }

# pictures SIDE FIRST COUNT CLASSES [NAMES]: a data set file.  Picture i is of class i % CLASSES; odd classes have
# upright stripes, even ones lying stripes, and the bits of the class are bright colours; the rest is noise.
pictures() {
    awk -v side="$1" -v n="$3" -v names="${5:-$(i=0; while [ $i -lt "$4" ]; do printf 'c%d\\n' $i; i=$((i + 1)); done)}" '
        BEGIN { a = 4 * n; b = a + n * side * side * 3; gsub(/\n/, "\\n", names)
            h = sprintf("{\"__metadata__\":{\"classes\":\"%s\"},\"labels\":{\"dtype\":\"I32\",\"shape\":[%d]," \
                "\"data_offsets\":[0,%d]},\"images\":{\"dtype\":\"U8\",\"shape\":[%d,%d,%d,3],\"data_offsets\":[%d,%d]}}",
                names, n, a, n, side, side, a, b)
            printf "%s", h }' >"$dir/header"
    n=$(wc -c <"$dir/header")
    printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\0\0\0\0\0\0"
    cat "$dir/header"
    i=$2
    while [ $i -lt $(($2 + $3)) ]; do printf "\\$(printf %o $((i % $4)))\0\0\0"; i=$((i + 1)); done
    awk -v side="$1" -v first="$2" -v n="$3" -v classes="$4" 'BEGIN {
        for (i = first; i < first + n; i++) {
            c = i % classes; r = i * 7919 % 65536
            for (k = 0; k < 3; k++) bright[k] = 1 + 60 * (int(c / 2 ^ k) % 2)
            for (y = 0; y < side; y++) for (x = 0; x < side; x++) for (k = 0; k < 3; k++) {
                r = (r * 1109 + 12345) % 65536
                printf "%c", bright[k] + 34 * (int((c % 2 ? x : y) / 4) % 2) + int(r / 2048)
            }
        } }'
}
# shards NAME COUNT...: the sequence of 42 pictures of seven classes as shards.
shards() {
    stem=$1 of=$(($# - 1)) at=0 k=0
    shift
    for count; do
        k=$((k + 1))
        pictures 40 $at "$count" 7 >"$dir/$stem-$(printf %05d $k)-of-$(printf %05d $of).st"
        at=$((at + count))
    done
}
shards one 42
shards many 15 20 7
one=$dir/one-00001-of-00001.st many=$dir/many-00002-of-00003.st
pictures 40 0 84 2 >"$dir/easy.st"

# The result, the table and the course of training without what is the machine's.
result() { sed -n '/^model/,$p' "$1" | sed 's/dataset=[a-z]*//; s/train_img_s=.*//'; }
same_result() { test_is "$1" [ -n "$(result "$2")" ] && test_is "$1" [ "$(result "$2")" = "$(result "$3")" ]; }
course() { cut -d, -f1-7 "$1"; }

# A late phase that crosses T0 and --drop, each of which takes the state to another net; minibatches of two
# parts, the last of them shorter.
set -- --net resnet-18 --side 32 --epochs 3 --t0 1 --drop 2 --members 2 --batch 16 --parts 2 --lr 0.002 --late bn,head \
    --quiet
accept "two threads, three shards" '^result dataset=many net=resnet-18 late=bn,head members=2 seed=1 top1=' \
    "$imagenet" --data "$many" "$@" --threads 2 --save "$dir/two.st" --save-members --csv "$dir/two.csv" \
    --predictions "$dir/predictions.csv" --confusion
sed '/^class/,/^$/d' "$dir/out" >"$dir/two" # without the confusion
if full; then # quick: in one with the run that is killed
    accept "one thread, one shard" '^result dataset=one ' "$imagenet" --data "$one" "$@" --threads 1 \
        --save "$dir/one.st" --save-members --csv "$dir/one.csv"
    same_result "neither threads nor shards change the result" "$dir/out" "$dir/two"
    test_is "... nor the model" cmp "$dir/one.st" "$dir/two.st"
    same "... nor the course" "$(course "$dir/one.csv")" "$(course "$dir/two.csv")"
fi
same "epochs, members" "$(cut -d, -f1,7 "$dir/two.csv" | tr '\n' ' ')" "epoch,members 1,1 2,2 3,2 "
test_is "the model at T0 is in the table" grep -q '^single model at T0 ' "$dir/two"

# Top-1, top-5 and NLL by counting; of equal probabilities the first is likelier.
count=$(tail -n +2 "$dir/predictions.csv" | awk -F, '
    { label = substr($2, 2); right = $(4 + label); rank = 0
      for (i = 4; i <= NF; i++) rank += $i > right || ($i == right && i < 4 + label)
      if ((rank < 1) != ($3 == $2)) wrong++
      n++; top1 += rank < 1; top5 += rank < 5; nll -= log(right) }
    END { printf "%d %.2f %.2f %.4f%s", n, 100 * top1 / n, 100 * top5 / n, nll / n, wrong ? " wrong" : "" }')
cp "$dir/two" "$dir/out"
same "as counted" "$count" "7 $(value top1) $(value top5) $(value nll)"
test_is "seven classes, five places: not all are right" [ "$(value top5 | cut -d. -f1)" -lt 100 ]
test_is "... and more than at the first place" [ "$(value top5 | tr -d .)" -gt "$(value top1 | tr -d .)" ]

same "their headings" "$(head -n 1 "$dir/predictions.csv")" "picture,label,predicted,c0,c1,c2,c3,c4,c5,c6"

# What was saved says the same, members and all; it needs no options but the data.
accept "a saved model" '^result dataset=many net=resnet-18 late=bn,head members=2 ' \
    "$imagenet" --data "$many" --eval --weights "$dir/two.st" --quiet --threads 1 --batch 7
sed '/^single model at T0/d' "$dir/two" >"$dir/two.after"
same_result "it is as good as when it was trained" "$dir/two.after" "$dir/out"

# Stopped by a signal, resumed, killed, resumed; with one thread and one shard, which change nothing either.
# until_it COMMAND...: waits until it succeeds, half a minute at most.
until_it() { i=0; while ! "$@" 2>/dev/null && [ $i -lt 600 ]; do sleep 0.05; i=$((i + 1)); done; }
other_checkpoint() { [ "$(cksum <"$dir/ck")" != "$before" ]; }
for after in 0.4 0.2 0.1 0.05 0; do # a fast machine may be at the end by then
    rm -f "$dir/resumed.st" "$dir/resumed.csv" "$dir/ck"
    "$imagenet" --data "$one" "$@" --threads 1 --save "$dir/resumed.st" --save-members --csv "$dir/resumed.csv" \
        --checkpoint "$dir/ck" --checkpoint-minutes 1000 >"$dir/out" 2>"$dir/err" &
    until_it [ -s "$dir/resumed.csv" ] # begun
    sleep $after
    kill -TERM $! 2>/dev/null
    wait $!
    ! grep -q "to go on" "$dir/err" || break
done
test_is "SIGTERM: the command to go on" grep -q "to go on: .*--resume $dir/ck" "$dir/err"
test_is "SIGTERM: no result" [ ! -e "$dir/resumed.st" ]
for n in $(full && echo 1 2 3 4 5 6 7 8 || echo 1); do
    "$imagenet" --resume "$dir/ck" --threads 1 --checkpoint-minutes 0 >"$dir/out" 2>"$dir/err" &
    [ $n -gt 1 ] || until_it grep -q '^1,' "$dir/resumed.csv" # after T0, whose model the checkpoint must know
    before=$(cksum <"$dir/ck")
    until_it other_checkpoint
    sleep "0.$((n % 4))"
    kill -KILL $! 2>/dev/null
    wait $! 2>/dev/null
done
accept "killed, and resumed" '^result dataset=one ' "$imagenet" --resume "$dir/ck" --threads 1
same_result "the same result" "$dir/out" "$dir/two"
test_is "the same model" cmp "$dir/resumed.st" "$dir/two.st"
same "the same course" "$(course "$dir/resumed.csv")" "$(course "$dir/two.csv")"
refuse "other pictures" 2 "--data $dir/easy.st: not the pictures that the checkpoint" \
    "$imagenet" --resume "$dir/ck" --data "$dir/easy.st" --quiet
refuse "another rate" 2 "--lr 0.2: the checkpoint $dir/ck was made with 0.002" "$imagenet" --resume "$dir/ck" --lr 0.2

# A new head: the classes of another data set are learnt, and only the head starts anew.
accept "a new head learns two classes" '^result dataset=easy net=resnet-18 late=none ' "$imagenet" --data "$dir/easy.st" \
    --side 32 --weights "$dir/two.st" --new-head --late none --epochs 3 --batch 8 --threads 1
test_is "far above chance: $(value top1)" [ "$(value top1 | cut -d. -f1)" -ge 80 ]
test_is "better than before" awk '/^before/ { before = $4 } /^single model/ { exit !($5 < before) }' "$dir/out"
same "what starts anew" "$(sed -n 's/^new head: "*\([a-z.]*\).*/\1/p' "$dir/out" | sort | tr '\n' ' ')" "fc.bias fc.weight "

# Weights of a smaller net: it is built as their file says.  More epochs than were planned: a note.
"$imagenet" --data "$dir/easy.st" --weights "$dir/two.st" --new-head --late none --epochs 1 --batch 8 --threads 1 \
    --limit-train 16 --checkpoint "$dir/short" >"$dir/out" 2>"$dir/err"
test_is "the side of the weights" grep -q '^resnet-18 at 32 x 32, ' "$dir/out"
accept "another epoch" '^result' "$imagenet" --resume "$dir/short" --epochs 2 --threads 1
test_is "its rates were planned for less" grep -q '^note: --epochs 2: T0 and the rates stay as they were planned for 1 ' "$dir/err"

# Pictures of unknown classes, with names and without; the net and its side are those of the file.
# unlabelled SIDE NAMES: the picture of class 1 and the one of class 4, without labels
unlabelled() {
    bytes=$((2 * $1 * $1 * 3))
    header="{\"images\":{\"dtype\":\"U8\",\"shape\":[2,$1,$1,3],\"data_offsets\":[0,$bytes]},\"names\":{\"dtype\":\"U8\",\"shape\":[${#2}],\"data_offsets\":[$bytes,$((bytes + ${#2}))]}}"
    printf "\\$(printf %o $((${#header} % 256)))\\$(printf %o $((${#header} / 256)))\0\0\0\0\0\0%s" "$header"
    for c in 1 4; do pictures "$1" $c 1 7 | tail -c $((bytes / 2)); done
    printf %s "$2"
}
unlabelled 40 'a "b", c.jpg
d.jpg
' >"$dir/new.st"
accept "what new pictures show" '^result dataset=new net=resnet-18 pictures=2 classes=7' \
    "$imagenet" --weights "$dir/two.st" --predict "$dir/new.st" --predictions "$dir/new.csv" --quiet --threads 1
cp "$dir/out" "$dir/shown"
accept "the same pictures with labels" '^result' "$imagenet" --data "$one" --test "$one" --eval --weights "$dir/two.st" --quiet \
    --threads 1 --predictions "$dir/known.csv"
for at in "1 \"a \"\"b\"\", c.jpg\"" "4 d.jpg"; do
    known=$(sed -n "s/^${at%% *},c${at%% *},//p" "$dir/known.csv")
    same "as those: ${at#* }" "$(grep -cxF "${at#* },,$known" "$dir/new.csv")" 1
    guess=${known%%,*}
    test_is "printed: ${at#* }" grep -qE "^(a \"b\", c|d).jpg: \"$guess\" [0-9.]+ %, \"c[0-6]\" [0-9.]+ %, \"c[0-6]\" [0-9.]+ %$" "$dir/shown"
done
accept "pictures that have labels" '^result dataset=one net=resnet-18 pictures=42 ' "$imagenet" --weights "$dir/two.st" --predict "$one" --quiet
test_is "their numbers in place of names" grep -q '^picture 41: ' "$dir/out"
unlabelled 40 'a.jpg
' >"$dir/new.st"
refuse "fewer names than pictures" 2 "new.st: names of 1 pictures, expected 2" \
    "$imagenet" --weights "$dir/two.st" --predict "$dir/new.st" --quiet
refuse "a prediction without weights" 2 "--predict $one: expected with --weights" "$imagenet" --predict "$one"
refuse "a prediction with training data" 2 "expected without --data" "$imagenet" --predict "$one" --weights "$dir/two.st" --data "$one"
refuse "a prediction by what is no net" 2 "has no last layer" "$imagenet" --predict "$one" --weights "$dir/easy.st"

# ---- what is refused, and what is said
mkdir "$dir/folder"
refuse "a directory" 2 "$dir/folder: a directory, expected a file of its pictures (pack_images.py" "$imagenet" --data "$dir/folder"
printf 'PK\003\004 and so on' >"$dir/model.pth"
refuse "a file of torch.save" 2 "model.pth: this is a file of torch.save, which torch_to_safetensors.py converts" \
    "$imagenet" --data "$one" --weights "$dir/model.pth"
refuse "a checkpoint that would be lost" 2 "--checkpoint $dir/ck: there is one already: --resume $dir/ck goes on" \
    "$imagenet" --data "$one" --checkpoint "$dir/ck"
pictures 40 0 5 3 >"$dir/uneven.st"
accept "few pictures" '^result' "$imagenet" --data "$dir/uneven.st" --side 48 --epochs 1 --threads 1 --quiet --late none
test_is "a class that is not tested" grep -q '^note: 1 of 3 classes have no test pictures, such as "c2"' "$dir/err"
test_is "pictures that are enlarged" grep -q '^note: pictures of 40 x 40 are enlarged to 48 x 48' "$dir/err"
# 17 pictures as 8, 7 and 2, not 8, 8 and 1: of one, BatchNorm has no variance where maps are 1x1.
pictures 40 0 17 2 >"$dir/odd.st"
accept "a last picture that would stand alone" '^result' "$imagenet" --data "$dir/odd.st" --test "$dir/odd.st" \
    --side 32 --batch 8 --epochs 1 --threads 2 --quiet --late none
tensor() { # NAME COUNT: a file with this tensor alone, zeros
    header="{\"$1\":{\"dtype\":\"F32\",\"shape\":[$2],\"data_offsets\":[0,$((4 * $2))]}}"
    printf "\\$(printf %o ${#header})\0\0\0\0\0\0\0%s" "$header"
    head -c $((4 * $2)) /dev/zero
}
tensor layer1.2.conv1.weight 1 >"$dir/deeper.st"
small() { data=$1; shift; "$imagenet" --data "$dir/$data" --side 32 --epochs 1 --threads 1 --quiet "$@"; }
refuse "no --data" 2 "--data is missing" "$imagenet"
refuse "no file" 2 "$dir/none.st: No such file" small none.st
refuse "unknown net" 2 "--net resnet-19: expected resnet-18, 34, 50, 101 or 152, or densenet-121" small easy.st --net resnet-19
refuse "unknown family" 2 "--late rank1: expected none, or bn, head, full joined by commas" small easy.st --late rank1
refuse "too small a side" 2 "--side '31'" small easy.st --side 31
refuse "parts that do not fit" 2 "--parts 5: expected a divisor of --batch 32" small easy.st --parts 5
refuse "T0 behind the end" 2 "--t0 1: expected less than --epochs 1" small easy.st --t0 1
refuse "other classes" 2 '--weights '"$dir/two.st"': its classes are not those of' small easy.st --weights "$dir/two.st"
pictures 40 0 20 2 'cat\ndog\n' | sed 's/"classes":"cat\\ndog\\n"/"clasess":"cat\\ndog\\n"/' >"$dir/nameless.st"
refuse "other classes without names" 2 '"fc.weight" is [7,512] in the file, but [2,512] in the net (--new-head learns other classes)' \
    small nameless.st --weights "$dir/two.st" --batch 8
refuse "weights of another depth" 2 'the file has "layer1.2.conv1.weight", which the net has not; is it the same net?' \
    small easy.st --weights "$dir/deeper.st"
tensor bn1.weight 64 >"$dir/part.st"
refuse "a part of the weights, for a new head" 2 'conv1.weight is not in the file; is it the same net?' \
    small easy.st --weights "$dir/part.st" --new-head --batch 8
full && refuse "weights of another family, for a new head" 2 'no tensor of the file fits the net' \
    small easy.st --weights "$dir/two.st" --new-head --net densenet-121
refuse "a new head without weights" 2 "--new-head: expected with --weights" small easy.st --new-head
refuse "a preset without weights" 2 "--preset imagenet_bn: expected with --weights" small easy.st --preset imagenet_bn
refuse "weights that are none" 2 'the file has "labels", which the net has not' small easy.st --weights "$dir/easy.st"
refuse "nowhere for predictions" 2 "--predictions $dir/none/x: cannot be written" small easy.st --predictions "$dir/none/x"
pictures 40 0 10 1 >"$dir/one.class.st"
refuse "one class" 2 "one.class.st: 1 class, expected 2 to 1000" small one.class.st
pictures 40 0 10 1 | sed 's/"classes"/"clasess"/' >"$dir/one.nameless.st"
refuse "one class without a name" 2 "one.nameless.st: 1 class, expected 2 to 1000" small one.nameless.st
pictures 40 0 20 2 'cat\ndog\ncow\n' >"$dir/empty.class.st"
refuse "an empty class" 2 'empty.class.st: class "cow" has no pictures' small empty.class.st
pictures 40 0 20 3 'cat\ndog\n' >"$dir/many.labels.st"
refuse "a label without a class" 2 "many.labels.st: image 2 has label 2, expected 0 to 1" small many.labels.st
pictures 31 0 10 2 >"$dir/tiny.st"
refuse "pictures that are too small" 2 '"images" is U8 [10, 31, 31, 3], expected U8 [n, s, s, 3] with s >= 32' small tiny.st
sed 's/\[10,31,31,3\]/[10,31,93,1]/' "$dir/tiny.st" >"$dir/oblong.st"
refuse "pictures that are no squares" 2 '"images" is U8 [10, 31, 93, 1], expected U8 [n, s, s, 3]' small oblong.st
head -c 20000 "$dir/easy.st" >"$dir/cut.st"
refuse "a file that is cut" 2 "$dir/cut.st: " small cut.st
cp "$dir/many-00001-of-00003.st" "$dir/some-00001-of-00002.st"
refuse "a missing shard" 2 "some-00002-of-00002.st: No such file" small some-00001-of-00002.st
pictures 41 0 14 7 >"$dir/some-00002-of-00002.st"
refuse "shards of two sizes" 2 "some-00002-of-00002.st: pictures of 41 x 41, but $dir/some-00001-of-00002.st has 40 x 40" \
    small some-00001-of-00002.st
pictures 40 0 14 2 >"$dir/some-00002-of-00002.st"
refuse "shards of other classes" 2 "some-00002-of-00002.st: its classes are not those of $dir/some-00001" \
    small some-00002-of-00002.st
pictures 40 0 14 7 | sed 's/"dtype":"U8"/"dtype":"F8"/' >"$dir/some-00002-of-00002.st"
refuse "shards of another format" 2 "some-00002-of-00002.st: " small some-00001-of-00002.st
refuse "a test set of other classes" 2 "--test $dir/easy.st: its classes are not those of $one" \
    "$imagenet" --data "$one" --test "$dir/easy.st"
refuse "eval of nothing" 2 "--eval: expected with --weights" small easy.st --eval
refuse "exploding loss" 1 "not finite" small easy.st --lr 1e25 --limit-train 48 --batch 8 --limit-test 4
accept "help" 'this text$' "$imagenet" --help
# in_force OPTION: the value in brackets
in_force() { sed -n "s/^  $1 .*\[\([^]]*\)\]\$/\1/p" "$dir/out"; }
accept "the preset" 'this text$' "$imagenet" --preset imagenet_bn --weights "$dir/two.st" --help
for option in net=resnet-50 late=bn members=10 epochs=20 batch=256 parts=2 lr=0.001 lr-end=0.001 drop=10 wd=0.0001 \
    wd-theta=5e-05 t0=0 turn=mean side=224; do
    same "preset: $option" "$(in_force "--${option%%=*}")" "${option#*=}"
done
accept "a new head" 'this text$' "$imagenet" --epochs 9 --weights "$dir/two.st" --new-head --help
for option in late=bn,head t0=5 drop=9 turn=mean lr=0.01 lr-end=0.0001; do
    same "new head: $option" "$(in_force "--${option%%=*}")" "${option#*=}"
done
accept "from scratch" 'this text$' "$imagenet" --epochs 10 --batch 64 --help
for option in net=resnet-18 t0=6 drop=10 turn=sum lr=0.025 lr-end=0.00025 lr-from=5 lr-to=9 parts=1; do
    same "from scratch: $option" "$(in_force "--${option%%=*}")" "${option#*=}"
done

if full; then
    # What these options change, and what they do not.
    tune() { "$imagenet" --data "$one" --test "$many" --weights "$dir/two.st" --side 32 --epochs 2 --members 2 --batch 16 --quiet "$@"; }
    accept "a test set of its own" '^result dataset=one ' tune --threads 1 --predictions "$dir/all.csv"
    same "which is tested whole" "$(wc -l <"$dir/all.csv")" 43
    first=$(value nll)
    for option in "--drop 2" "--turn sum" "--wd-theta 1" "--wd 0.5" "--parts 2" "--seed 2" "--late bn,head" "--late none" \
        "--lr 0.01" "--lr-end 0 --lr-from 0 --lr-to 2" "--side 48"; do
        accept "$option" '^result' tune --threads 1 $option
        test_is "$option changes the result" [ "$(value nll)" != "$first" ]
    done
    for option in "--recompute" "--threads 2" "--test $one"; do
        accept "$option" '^result' tune --threads 1 $option
        same "$option changes nothing" "$(value nll)" "$first"
    done
    accept "a DenseNet" '^result dataset=easy net=densenet-121 ' small easy.st --net densenet121 --batch 32 --limit-test 4

    # What PyTorch says of the same pictures with the same weights.
    python=
    for candidate in python3 /usr/bin/python3; do
        [ -n "$python" ] || ! "$candidate" -c 'import torchvision' 2>/dev/null || python=$candidate
    done
    if [ -n "$python" ]; then
        cat >"$dir/compare.py" <<'EOF'
import json, struct, sys
import numpy as np, torch, torchvision
from PIL import Image
from torchvision import transforms as T

torch.manual_seed(1)
net = torchvision.models.resnet18(num_classes=7)
if sys.argv[1] == "make":
    torch.save(net.state_dict(), sys.argv[2])
    sys.exit()
net.load_state_dict(torch.load(sys.argv[2]))
net.eval()
data = open(sys.argv[3], "rb").read()
n, = struct.unpack("<Q", data[:8])
a, b = json.loads(data[8:8 + n])["images"]["data_offsets"]
images = np.frombuffer(data[8 + n + a:8 + n + b], "uint8").reshape(-1, 40, 40, 3)
prepare = T.Compose([T.CenterCrop(35), T.Resize((32, 32)), T.ToTensor(),
                     T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
lines = [line.split(",") for line in open(sys.argv[4])][1:]
with torch.no_grad():
    x = torch.stack([prepare(Image.fromarray(images[int(line[0])])) for line in lines])
    p = torch.softmax(net(x), 1).numpy()
worst = np.abs(p - np.array([[float(v) for v in line[3:]] for line in lines])).max()
print("largest difference of a probability:", worst)
assert len(lines) == 42 and worst < 1e-5
EOF
        "$python" "$dir/compare.py" make "$dir/torch.pt" 2>"$dir/err"
        "$python" "$(dirname "$0")/../data_scripts/torch_to_safetensors.py" "$dir/torch.pt" "$dir/torch.st" 2>"$dir/err"
        accept "weights of PyTorch" '^result' "$imagenet" --data "$one" --test "$one" --net resnet-18 --side 32 --eval \
            --weights "$dir/torch.st" --predictions "$dir/torch.csv"
        test_is "the same probabilities" "$python" "$dir/compare.py" compare "$dir/torch.pt" "$one" "$dir/torch.csv"
    else
        echo "skipped: a python3 with torchvision"
        skipped=$((skipped + 1))
    fi
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
