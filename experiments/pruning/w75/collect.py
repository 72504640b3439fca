"""Bytes of the pruned networks as CSV: planned GB, single ReLUs, blocks freed, and times fewer bytes than without
L_comm at the same seed.

    python3 collect.py RUNS
"""

import json
import sys
from pathlib import Path

print("seed,lambda,offline GB,online GB,total GB,times fewer,ReLUs,freed")
for seed in [1, 2, 3]:
    without = None
    for weight in [0, 1, 3]:
        run = json.loads((Path(sys.argv[1]) / f"w75-{seed}-{weight}.json").read_text())
        offline, online = run["after"]["offline"] / 1e9, run["after"]["online"] / 1e9
        total = offline + online
        without = without or total
        freed = " ".join(b["name"].removeprefix("block") for b in run["blocks"] if b["form"] != "kept")
        print(f"{seed},{weight},{offline:.3f},{online:.3f},{total:.3f},{without / total:.2f},{run['relus_after']},{freed}")
