#!/bin/sh
# Quantisation on the embedded data, mbv2-tiny, three seeds.
#
#   sh experiments/bits/run.sh [OUT]        # COPRIV=target/release/copriv
#
# 1. Hessian-guided against uniform and MACs-guided widths under the planned bytes of uniform W3 and W4 (weights,
#    activations of 6 bits), and of W2A2 and W3A2 (weights and activations), without and with quantisation-aware
#    training.
# 2. W4A6 with a residual stream of 8 bits, by the progressive recipe.
# 3. W2 and W3 mixed (the half of the layers that loses most by W2 has W3), A6, likewise; and ternary.
#
# Whatever lies in OUT is not made again, so it can be done in slices: SEEDS, LIMITS, METHODS, EPOCHS and RECIPES
# choose a part. Writes experiments/bits/results.csv and results.json (percent of the
# 1,000 test images; `planned` are bytes an inference before training) and accuracy.svg.
set -eu
copriv=${COPRIV:-target/release/copriv}
out=${1:-runs/bits}
here=$(dirname "$0")
mkdir -p "$out"
field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }
made() { [ -e "$1.json" ]; }
for seed in ${SEEDS:-1 2 3}; do
    float=$out/float-$seed
    [ -e "$float/done" ] || { "$copriv" train --arch mbv2-tiny --seed "$seed" --out "$float"; touch "$float/done"; }
    start=$float/best.safetensors
    bits() {
        made "$out/$1" || "$copriv" bits "$start" --seed "$seed" --probes 100 --images 256 --ot softspoken8 \
            --curvature "$out/curvature-$2-$seed" --layers "$2" --comm-limit "$3" --method "$4" \
            --out "$out/$1.toml" --json "$out/$1.json" > "$out/$1.txt"
    }
    for widths in ${LIMITS:-w3 w4 w2a2 w3a2}; do
        case $widths in
            *a*) layers=weights+activations ;;
            *) layers=weights ;;
        esac
        bits "all-$layers-$seed" $layers 1000GB hessian
        # The second layer never has the outer layers' fixed width. A byte of slack: a limit is compared before
        # rounding.
        limit=$(field "$out/all-$layers-$seed.json" "1 + next(p['planned'] for p in d['front'] if p['method'] == 'uniform'
            and '$widths' == 'w%d' % p['weights'][1] + ''.join('a%d' % bits for bits in p['activations'][:1]))")
        for method in ${METHODS:-uniform macs hessian}; do
            name=$widths-$method-$seed
            bits "$name" $layers "$limit" $method
            for epochs in ${EPOCHS:-0 2}; do
                made "$out/export-$name-$epochs" || "$copriv" export "$start" --bits "$out/$name.toml" --seed "$seed" \
                    --epochs $epochs --out "$out/model-$name-$epochs" --json "$out/export-$name-$epochs.json" > /dev/null
            done
        done
    done
    python3 "$here/mixed.py" "$out/all-weights-$seed.json" "$out/all-weights-$seed.toml" > "$out/mixed-$seed.toml"
    recipe() {
        made "$out/export-$1-$seed" || "$copriv" quantize "$start" --recipe "$here/../../recipes/quantise/progressive.toml" \
            --seed "$seed" --out "$out/model-$1-$seed" --json "$out/export-$1-$seed.json" $2 > /dev/null
    }
    for name in ${RECIPES-w4a6 mixed ternary}; do
        case $name in
            w4a6) recipe w4a6 "--weight-bits 4 --act-bits 6 --residual-bits 8" ;;
            mixed) recipe mixed "--bits $out/mixed-$seed.toml" ;;
            ternary) recipe ternary "--weight-bits ternary --act-bits 6 --residual-bits 8" ;;
        esac
    done
done
python3 "$here/collect.py" "$out" "$here"
