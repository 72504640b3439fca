#!/usr/bin/env python3
"""Cuts the embedded data set out of Fashion-MNIST.

    apt-get install dataset-fashion-mnist        # Debian; or the four .gz files of
                                                 # github.com/zalandoresearch/fashion-mnist
    pip install pillow numpy
    python3 make.py [SOURCE_DIR]

Takes the first 600 training and the first 100 test images of every class, in file order, and
writes them as two lossless WebP mosaics beside this script: tiles of 28x28, 25 a row, all of
class 0 first, then all of class 1, and so on. The class of a tile is therefore its index
divided by 600 (or 100); no label file is needed. Prints SHA256SUMS.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, CLASSES, COLUMNS = 28, 10, 25
SPLITS = {"train": ("train", 600), "test": ("t10k", 100)}


def idx(path: Path, magic: int) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    if int.from_bytes(raw[:4], "big") != magic:
        sys.exit(f"{path}: not an IDX file with magic {magic}")
    return np.frombuffer(raw, np.uint8, offset=16 if magic == 2051 else 8)


def mosaic(source: Path, prefix: str, per_class: int) -> np.ndarray:
    images = idx(source / f"{prefix}-images-idx3-ubyte.gz", 2051).reshape(-1, SIDE, SIDE)
    labels = idx(source / f"{prefix}-labels-idx1-ubyte.gz", 2049)
    tiles = np.concatenate([images[labels == c][:per_class] for c in range(CLASSES)])
    assert len(tiles) == CLASSES * per_class
    rows = len(tiles) // COLUMNS
    grid = tiles.reshape(rows, COLUMNS, SIDE, SIDE).transpose(0, 2, 1, 3)
    return grid.reshape(rows * SIDE, COLUMNS * SIDE)


def main() -> None:
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    here = Path(__file__).resolve().parent
    sums = []
    for split, (prefix, per_class) in SPLITS.items():
        pixels = mosaic(source, prefix, per_class)
        path = here / f"{split}.webp"
        Image.fromarray(pixels).save(path, "WEBP", lossless=True, quality=100, method=6)
        back = np.asarray(Image.open(path).convert("L"))
        assert np.array_equal(back, pixels), "the mosaic must be lossless"
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    (here / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    print("\n".join(sums))


if __name__ == "__main__":
    main()
