#!/bin/sh
# With and without bytes in the loss of the search, and beside SNL, SENet and pruning without a search.
# usage: run.sh COPRIV FOLDER      (the program; a folder for the runs)
# First MobileNetV2-w0.75 at 32x32, searches of one epoch of the embedded images, three seeds, priced in CoPriv's
# fixed point under its preset; then the demo's network, three seeds, finetuned for six epochs, for accuracy over
# the bytes of its export. About an hour on two idle cores, most of it the searches of MobileNetV2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
copriv=$1
runs=$2
mkdir -p "$runs"
price="--fixed41 --preset copriv"

[ -e "$runs/w75/best.safetensors" ] || "$copriv" train --arch mbv2-w0.75 --epochs 3 --seed 1 --out "$runs/w75"
for seed in 1 2 3; do
    for lambda in 0 1 3; do
        "$copriv" prune "$runs/w75/best.safetensors" $price --seed $seed --lambda $lambda --budget 0.5 \
            --search-epochs 1 --epochs 0 --out "$runs/w75-$seed-$lambda" --json "$runs/w75-$seed-$lambda.json"
    done
done
python3 "$here/w75/collect.py" "$runs" > "$here/w75/results.csv"
"$copriv" compare "$runs"/w75-2-[013].json --out "$runs/w75-compared"
cp "$runs/w75-compared/blocks.svg" "$here/w75"

for seed in 1 2 3; do
    [ -e "$runs/tiny-$seed/done" ] || {
        "$copriv" train --arch mbv2-tiny --seed $seed --out "$runs/tiny-$seed"
        touch "$runs/tiny-$seed/done"
    }
    prune() {
        name=$1
        shift
        [ -e "$runs/$name-$seed.json" ] || "$copriv" prune "$runs/tiny-$seed/best.safetensors" --seed $seed --epochs 6 "$@" \
            --out "$runs/$name-$seed" --json "$runs/$name-$seed.json"
    }
    for budget in 0.5 0.2; do
        prune comm-$budget --budget $budget
        prune free-$budget --budget $budget --lambda 0
        prune snl-$budget --budget $budget --method snl
        prune senet-$budget --budget $budget --method senet
        prune uniform-$budget --budget $budget --method uniform
    done
done
cd "$runs"
"$copriv" compare comm-*.json free-*.json snl-*.json senet-*.json uniform-*.json --out "$here/tiny"
