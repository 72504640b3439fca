#!/usr/bin/env python3
"""Rectangles of random erasing, CutMix and random resized crops from the published definitions, for
src/data/augment/regions.rs, and parts of images resized by Pillow, for src/data/picture.rs.

usage: python3 regions.py > regions.json        (needs: pip install numpy pillow)

Erasing: torchvision.transforms.RandomErasing.get_params with its default ranges, its uniform
draws given. Resized crops: RandomResizedCrop.get_params likewise. CutMix: rand_bbox of the authors' code (clovaai/CutMix-PyTorch), its centre given.
"""
import json
import math

import numpy as np
from PIL import Image


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


def resize(height, width, least, area, aspect, row, column):
    target = height * width * (least + (1 - least) * area)
    lo, hi = math.log(3 / 4), math.log(4 / 3)
    # torchvision's ratio is width over height; the logarithm's distribution is symmetric.
    ratio = math.exp(lo + (hi - lo) * aspect)
    h, w = int(round(math.sqrt(target * ratio))), int(round(math.sqrt(target / ratio)))
    if not (0 < h <= height and 0 < w <= width):
        return None
    i, j = int(row * (height - h + 1)), int(column * (width - w + 1))
    return [i, i + h, j, j + w]


def middle(height, width):
    ratio = width / height
    if ratio < 3 / 4:
        w, h = width, int(round(width / (3 / 4)))
    elif ratio > 4 / 3:
        h, w = height, int(round(height * (4 / 3)))
    else:
        h, w = height, width
    i, j = (height - h) // 2, (width - w) // 2
    return [i, i + h, j, j + w]


def part(side, top, bottom, left, right, to):
    picture = rng.integers(0, 256, (side, side), dtype=np.uint8)
    cut = Image.fromarray(picture).crop((left, top, right, bottom)).resize((to, to), Image.BILINEAR)
    return {"side": side, "picture": picture.flatten().tolist(), "part": [top, bottom, left, right],
            "to": to, "expected": np.asarray(cut).flatten().tolist()}


rng = np.random.default_rng(11)
erases = [(side, [float(u) for u in rng.random(4)]) for side in (28, 32, 64) for _ in range(8)]
erases += [(32, [0.999, 0.999, 0.5, 0.5]), (32, [0.0, 0.5, 0.0, 0.999])]
pastes = [
    (side, float(rng.random()), [int(c) for c in rng.integers(0, side, 2)]) for side in (28, 32) for _ in range(8)
]
sizes = [(h, w, least) for h, w in ((32, 32), (500, 375), (90, 333)) for least in (0.08, 0.5) for _ in range(4)]
resizes = [([h, w], least, [float(u) for u in rng.random(4)]) for h, w, least in sizes]
print(json.dumps({
    "erase": [(s, d, erase(s, *d)) for s, d in erases],
    "resize": [(size, least, d, resize(*size, least, *d)) for size, least, d in resizes],
    "middle": [(size, middle(*size)) for size in ([32, 32], [500, 375], [90, 333], [333, 90], [40, 50])],
    "parts": [part(*case) for case in ((8, 0, 8, 0, 8, 8), (12, 1, 11, 3, 9, 8), (24, 2, 23, 0, 17, 8), (6, 1, 5, 1, 6, 16))],
    "paste": [(s, lam, c, paste(s, lam, *c)) for s, lam, c in pastes],
}))
