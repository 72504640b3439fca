"""W2 and W3 mixed: of the layers whose width is free, the half that loses most by W2 has W3.

    python3 mixed.py BITS.json BITS.toml > MIXED.toml
"""

import json
import re
import sys

layers = json.load(open(sys.argv[1]))["layers"]
free = {}
for layer in layers:
    omega = {w["weights"]: s for w, s in zip(layer["options"], layer["sensitivity"])}
    if len(omega) > 1:
        free[layer["name"]] = omega[2] - omega[3]
wide = sorted(free, key=free.get, reverse=True)[: len(free) // 2]
for line in open(sys.argv[2]):
    found = re.match(r'"?([\w.]+)"? = \d+$', line.strip())
    name = found and found.group(1)
    print(f'"{name}" = {3 if name in wide else 2}' if name in free else line.rstrip())
