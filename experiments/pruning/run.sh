#!/bin/sh
# With and without bytes in the loss of the search, and beside SNL, SENet and pruning without a search.
# usage: run.sh COPRIV FOLDER      (the program; a folder for the runs)
# First MobileNetV2-w0.75 at 32x32, searches only, priced in CoPriv's fixed point under its preset; then the
# demo's network, finetuned, for accuracy over bytes. About ten minutes on two idle cores.
# A search of 20 steps needs a large weight: at 0.3 the gates' noise decides and nothing is saved.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
copriv=$1
runs=$2
mkdir -p "$runs"
price="--fixed41 --preset copriv --seed 1"

[ -e "$runs/w75/best.safetensors" ] ||
    "$copriv" train --arch mbv2-w0.75 --set images=2000 --epochs 5 --seed 1 --out "$runs/w75"
for lambda in 0 0.3 30; do
    "$copriv" prune "$runs/w75/best.safetensors" $price --lambda $lambda --budget 0.5 --images 256 \
        --search-epochs 5 --epochs 0 --out "$runs/w75-$lambda" --json "$runs/w75-$lambda.json"
done
"$copriv" compare "$runs/w75-0.json" "$runs/w75-30.json" --out "$here/w75"

[ -e "$runs/tiny/last.safetensors" ] ||
    "$copriv" train --arch mbv2-tiny --set images=1000 --epochs 4 --seed 1 --out "$runs/tiny"
prune() {
    name=$1
    shift
    "$copriv" prune "$runs/tiny/last.safetensors" $price --images 500 --search-epochs 2 --epochs 3 "$@" \
        --out "$runs/$name" --json "$runs/$name.json"
}
for budget in 0.5 0.2; do
    prune comm-$budget --budget $budget
    prune free-$budget --budget $budget --lambda 0
    prune snl-$budget --budget $budget --method snl
    prune senet-$budget --budget $budget --method senet
    prune uniform-$budget --budget $budget --method uniform
done
cd "$runs"
"$copriv" compare comm-*.json free-*.json snl-*.json senet-*.json uniform-*.json --out "$here/tiny"
