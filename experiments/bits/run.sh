#!/bin/sh
# Hessian-guided against uniform widths at equal planned bytes: mbv2-tiny on the embedded data, three seeds.
#
#   sh experiments/bits/run.sh [OUT]        # COPRIV=target/release/copriv
#
# For each seed a float network, then under the planned bytes of uniform W3 and W4 the best uniform, MACs-guided
# and Hessian-guided widths, each exported without and with quantisation-aware training. Prints and writes
# OUT/results.csv: seed, limit, method, planned bytes, epochs of training, integer accuracy in percent of the test images.
set -eu
copriv=${COPRIV:-target/release/copriv}
out=${1:-runs/bits}
mkdir -p "$out"
echo "seed,limit,method,planned,epochs,integer" > "$out/results.csv"
field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }
for seed in 1 2 3; do
    float=$out/float-$seed
    [ -e "$float/best.safetensors" ] || "$copriv" train --arch mbv2-tiny --seed "$seed" --out "$float"
    "$copriv" bits "$float/best.safetensors" --comm-limit 1000GB --seed "$seed" \
        --out "$out/all.toml" --json "$out/front-$seed.json"
    for width in 3 4; do
        # The second layer never has the outer layers' fixed width.
        limit=$(field "$out/front-$seed.json" \
            "next(p['planned'] for p in d['front'] if p['method'] == 'uniform' and p['weights'][1] == $width)")
        for method in uniform macs hessian; do
            name=$seed-w$width-$method
            # A byte of slack: a limit is compared before rounding.
            "$copriv" bits "$float/best.safetensors" --comm-limit $((limit + 1)) --method $method --seed "$seed" \
                --out "$out/$name.toml" --json "$out/$name.json"
            planned=$(field "$out/$name.json" "d['choice']['planned']")
            for epochs in 0 2; do
                "$copriv" export "$float/best.safetensors" --bits "$out/$name.toml" --seed "$seed" \
                    --epochs $epochs --out "$out/$name-$epochs" --json "$out/$name-$epochs.json"
                integer=$(field "$out/$name-$epochs.json" "d['integer']")
                echo "$seed,W$width,$method,$planned,$epochs,$integer" >> "$out/results.csv"
            done
        done
    done
done
cat "$out/results.csv"
