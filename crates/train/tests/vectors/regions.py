#!/usr/bin/env python3
"""Rectangles of random erasing and CutMix from the published definitions, for
src/data/augment/regions.rs.

usage: python3 regions.py > regions.json        (needs: pip install numpy)

Erasing: torchvision.transforms.RandomErasing.get_params with its default ranges, its uniform
draws given. CutMix: rand_bbox of the authors' code (clovaai/CutMix-PyTorch), its centre given.
"""
import json
import math

import numpy as np


def erase(side, area, aspect, row, column):
    erase_area = side * side * (0.02 + (1 / 3 - 0.02) * area)
    lo, hi = math.log(0.3), math.log(3.3)
    ratio = math.exp(lo + (hi - lo) * aspect)
    h = int(round(math.sqrt(erase_area * ratio)))
    w = int(round(math.sqrt(erase_area / ratio)))
    if not (h < side and w < side):
        return None
    i, j = int(row * (side - h + 1)), int(column * (side - w + 1))
    return [i, i + h, j, j + w]


def paste(side, lam, cy, cx):
    cut = int(side * np.sqrt(1.0 - lam))
    y1, y2 = np.clip([cy - cut // 2, cy + cut // 2], 0, side)
    x1, x2 = np.clip([cx - cut // 2, cx + cut // 2], 0, side)
    return [int(v) for v in (y1, y2, x1, x2)]


rng = np.random.default_rng(11)
erases = [(side, [float(u) for u in rng.random(4)]) for side in (28, 32, 64) for _ in range(8)]
erases += [(32, [0.999, 0.999, 0.5, 0.5]), (32, [0.0, 0.5, 0.0, 0.999])]
pastes = [
    (side, float(rng.random()), [int(c) for c in rng.integers(0, side, 2)]) for side in (28, 32) for _ in range(8)
]
print(json.dumps({
    "erase": [(s, d, erase(s, *d)) for s, d in erases],
    "paste": [(s, lam, c, paste(s, lam, *c)) for s, lam, c in pastes],
}, indent=0))
