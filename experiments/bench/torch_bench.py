"""The networks of `cargo bench -p copriv-train` in PyTorch: one training step, NCHW, fp32.

    python3 torch_bench.py ARCH THREADS WARM_UP_STEPS TIMED_STEPS [DEVICE]

Prints {"parameters", "images_per_second", "cpu_seconds", "peak_mib"}; the speed is the median over the
steps, the processor time (of a step) their mean.
"""

import json
import resource
import statistics
import sys
import time

import torch
from torch import nn

BATCH, SIDE, CLASSES = 64, 32, 10


def conv(inputs, outputs, kernel, stride=1, groups=1, relu=True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class Inverted(nn.Module):
    """MobileNetV2's block (Sandler et al., 2018)."""

    def __init__(self, inputs, outputs, expansion, stride):
        super().__init__()
        hidden = inputs * expansion
        expand = [conv(inputs, hidden, 1)] if expansion != 1 else []
        self.body = nn.Sequential(
            *expand, conv(hidden, hidden, 3, stride, hidden), conv(hidden, outputs, 1, relu=False)
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.skip else self.body(x)


class Basic(nn.Module):
    """ResNet's block (He et al., 2016) with a 1x1 convolution as shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, relu=False)
        )
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else conv(inputs, outputs, 1, stride, relu=False)

    def forward(self, x):
        return torch.relu_(self.body(x) + self.shortcut(x))


def mobilenet(width):
    def scale(channels):
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    layers, channels = [conv(3, scale(32), 3)], scale(32)
    stages = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, repeat, stride in stages:
        for i in range(repeat):
            layers.append(Inverted(channels, scale(outputs), expansion, stride if i == 0 else 1))
            channels = scale(outputs)
    head = max(1280, scale(1280))
    layers += [conv(channels, head, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(head, CLASSES)]
    return nn.Sequential(*layers)


def resnet(depth):
    layers, channels = [conv(3, 16, 3)], 16
    for outputs, stride in [(16, 1), (32, 2), (64, 2)]:
        for i in range((depth - 2) // 6):
            layers.append(Basic(channels, outputs, stride if i == 0 else 1))
            channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers)


def main():
    arch, threads, warm_up, timed = sys.argv[1], *map(int, sys.argv[2:5])
    device = sys.argv[5] if len(sys.argv) > 5 else "cpu"
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = mobilenet(float(arch.removeprefix("mbv2-w"))) if arch.startswith("mbv2-w") else resnet(int(arch.removeprefix("resnet")))
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss_of = nn.CrossEntropyLoss()
    x = torch.randn(BATCH, 3, SIDE, SIDE, device=device)
    y = torch.arange(BATCH, device=device) % CLASSES
    seconds = []
    for step in range(warm_up + timed):
        if step == warm_up:
            cpu = time.process_time()
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        assert loss.isfinite().item()
        if step >= warm_up:
            seconds.append(time.perf_counter() - began)
    on_gpu = device != "cpu"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "parameters": sum(p.numel() for p in model.parameters()),
        "images_per_second": BATCH / statistics.median(seconds),
        "cpu_seconds": (time.process_time() - cpu) / timed,
        "peak_mib": peak,
    }))


if __name__ == "__main__":
    main()
