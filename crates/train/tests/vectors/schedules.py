#!/usr/bin/env python3
"""Learning rates as PyTorch's own schedulers compute them, for src/fit/schedule.rs.

usage: python3 schedules.py > schedules.json        (needs: pip install torch)
"""
import json

import torch
from torch.optim import lr_scheduler as lr


def rates(schedule, peak, warmup, epochs, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    total, warm = epochs * steps, int(warmup * steps)
    if schedule["kind"] == "cosine":
        main = lr.CosineAnnealingLR(optimizer, total - warm, eta_min=schedule["floor"] * peak)
    else:
        # The milestones count from the start of the run, the second scheduler from its own.
        milestones = [int(m * steps) - warm for m in schedule["milestones"]]
        main = lr.MultiStepLR(optimizer, milestones, gamma=schedule["factor"])
    scheduler = main
    if warm:
        ramp = lr.LinearLR(optimizer, start_factor=1 / warm, total_iters=warm - 1) if warm > 1 else main
        scheduler = lr.SequentialLR(optimizer, [ramp, main], milestones=[warm])
    out = []
    for _ in range(total):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


CASES = [
    ({"kind": "cosine", "floor": 0.0}, 0.8, 2.0, 10, 5),
    ({"kind": "cosine", "floor": 0.05}, 0.1, 0.0, 4, 7),
    ({"kind": "multistep", "milestones": [3.0, 6.0, 8.0], "factor": 0.1}, 0.1, 0.0, 10, 4),
    ({"kind": "multistep", "milestones": [5.0, 7.0], "factor": 0.2}, 0.4, 1.5, 9, 6),
]

print(json.dumps([
    {"schedule": s, "peak": p, "warmup": w, "epochs": e, "steps": n, "rates": rates(s, p, w, e, n)}
    for s, p, w, e, n in CASES
], indent=1))
