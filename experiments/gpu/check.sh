#!/usr/bin/env bash
# What a session on a machine with a GPU runs: does training work there, and how fast is it?
#
#   experiments/gpu/check.sh DEVICE [OUT]     DEVICE is wgpu, vulkan, cuda or metal: also the feature
#
# 1. `copriv devices`: the device computes.
# 2. Three epochs of eight steps on the embedded set, stopped and gone on with, on the device and on
#    the CPU: the losses of both, which agree up to rounding.
# 3. One epoch in single and in mixed precision, and their validation accuracies.
# 4. Images a second beside PyTorch's on the same GPU, in the same run (fp32, batch 64), if the
#    Python that COPRIV_PYTHON names (python3) has PyTorch. Set COPRIV_BENCH_STEPS=1,3 on a software
#    driver.
#
# On a machine without a GPU: apt-get install mesa-vulkan-drivers, and
#   VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json COPRIV_BENCH_STEPS=1,3 \
#       experiments/gpu/check.sh wgpu
# (2026-11-21, Mesa 22.3.6: the first epoch's losses were 2.3801 there and 2.3774 on the CPU.)
#
# Where nothing can be built, name the programs that were built elsewhere in COPRIV and COPRIV_BENCH
# (`cargo bench -p copriv-train --features DEVICE --no-run` names the second).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
device=${1:?"name a device: wgpu, vulkan, cuda or metal"}
out=${2:-$(mktemp -d)}
mkdir -p "$out"
cd "$here/../.."

if [ -z "${COPRIV:-}" ]; then
    cargo build --release --locked -p copriv --features "$device"
    COPRIV=${CARGO_TARGET_DIR:-target}/release/copriv
fi

echo "== devices"
"$COPRIV" devices | tee "$out/devices.txt"
grep -Eq "^$device +works" "$out/devices.txt" || { echo "$device does not work here"; exit 1; }

echo "== three epochs on $device and on the CPU"
train() { # device, folder
    "$COPRIV" train --device "$1" --out "$2" --seed 5 --epochs 3 --batch 16 --set images=128 --set recipe.warmup=0
}
rm -rf "$out/gpu" "$out/cpu"
train "$device" "$out/gpu"
train cpu "$out/cpu"
cut -d, -f1-4 "$out/gpu/metrics.csv" "$out/cpu/metrics.csv"
# The first epoch's losses: later ones drift apart, as rounding is amplified by every step.
loss() { awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "loss") c = i } NR == 2 { print $c }' "$1/metrics.csv"; }
awk -v a="$(loss "$out/gpu")" -v b="$(loss "$out/cpu")" 'BEGIN {
    d = a > b ? a - b : b - a
    print "first epoch: loss " a " on the device, " b " on the CPU"
    exit !(d < 0.05 * b)
}' || { echo "the losses differ"; exit 1; }

echo "== one epoch in single and in mixed precision"
for precision in single mixed; do
    rm -rf "$out/$precision"
    "$COPRIV" train --device "$device" --out "$out/$precision" --seed 5 --epochs 1 \
        --set recipe.precision=$precision |
        tail -1
done

echo "== images a second"
export COPRIV_BENCH_DEVICE=$device COPRIV_BENCH_STEPS=${COPRIV_BENCH_STEPS:-30,50}
if [ -n "${COPRIV_BENCH:-}" ]; then
    "$COPRIV_BENCH"
else
    cargo bench --locked -p copriv-train --features "$device" --bench training
fi | tee "$out/bench.txt"
