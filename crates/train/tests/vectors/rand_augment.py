#!/usr/bin/env python3
"""RandAugment's operations as Pillow computes them, for src/data/augment/operations.rs.

usage: python3 rand_augment.py > rand_augment.json        (needs: pip install pillow numpy)
"""
import json

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SIDE = 16


def pictures():
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3))
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    grey = 30 + 5 * x + 6 * y + rng.integers(0, 20, (SIDE, SIDE))
    flat = np.full((SIDE, SIDE, 3), 77)
    return [Image.fromarray(a.astype(np.uint8)) for a in (noise, grey, flat)]


def planes(image):
    array = np.asarray(image)
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).tobytes().hex()


def affine(*matrix):
    return lambda im: im.transform(im.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def operations():
    yield "identity", lambda im: im
    yield "auto_contrast", ImageOps.autocontrast
    yield "equalize", ImageOps.equalize
    for degrees in (-30.0, 12.0):
        yield {"rotate": degrees}, lambda im, d=degrees: im.rotate(d)
    for threshold in (0, 100):
        yield {"solarize": threshold}, lambda im, t=threshold: ImageOps.solarize(im, t)
    for bits in (4, 6):
        yield {"posterize": bits}, lambda im, b=bits: ImageOps.posterize(im, b)
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        for factor in (0.1, 1.27):
            enhance = getattr(ImageEnhance, name)
            yield {name.lower(): factor}, lambda im, e=enhance, f=factor: e(im).enhance(f)
    for slope in (-0.3, 0.135):
        yield {"shear_x": slope}, affine(1, slope, 0, 0, 1, 0)
        yield {"shear_y": slope}, affine(1, 0, 0, slope, 1, 0)
    for pixels in (-7, 3):
        yield {"translate_x": pixels}, affine(1, 0, pixels, 0, 1, 0)
        yield {"translate_y": pixels}, affine(1, 0, 0, 0, 1, pixels)


def main():
    images = pictures()
    cases = [
        {"operation": name, "image": i, "expected": planes(apply(image))}
        for name, apply in operations()
        for i, image in enumerate(images)
    ]
    print(json.dumps({"side": SIDE, "images": [planes(im) for im in images], "cases": cases}, indent=0))


if __name__ == "__main__":
    main()
