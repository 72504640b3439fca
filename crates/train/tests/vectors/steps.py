"""Losses, optimisers, clipping and moving averages by PyTorch, for `src/fit/{loss,descent}.rs`.

    python3 steps.py > steps.json        (torch 2.x)
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)


def numbers(tensor):
    return tensor.detach().flatten().tolist()


def losses():
    cases = []
    for smoothing, temperature, mix in [(0.0, 1.0, 0.0), (0.1, 4.0, 0.7), (0.0, 2.5, 1.0)]:
        student = (3 * torch.randn(5, 4)).requires_grad_()
        teacher = 3 * torch.randn(5, 4)
        labels = torch.tensor([0, 3, 1, 1, 2])
        hard = F.cross_entropy(student, labels, label_smoothing=smoothing, reduction="sum")
        soft = F.kl_div(
            F.log_softmax(student / temperature, 1),
            F.log_softmax(teacher / temperature, 1),
            reduction="sum",
            log_target=True,
        )
        soft = soft * temperature**2
        loss = (1 - mix) * hard + mix * soft
        loss.backward()
        cases.append({
            "student": numbers(student), "teacher": numbers(teacher), "labels": labels.tolist(),
            "smoothing": smoothing, "temperature": temperature, "mix": mix,
            "hard": hard.item(), "soft": soft.item(), "gradient": numbers(student.grad),
        })
    return cases


def descents():
    """Four steps of two tensors, the first of which is decayed."""
    cases = []
    for kind, options, decay, clip in [
        ("sgd", {"momentum": 0.9, "nesterov": True}, 0.05, 0.0),
        ("sgd", {"momentum": 0.8, "nesterov": False}, 0.0, 1.5),
        ("sgd", {"momentum": 0.9, "nesterov": True}, 0.05, 100.0),
        ("adam", {"beta1": 0.9, "beta2": 0.99}, 0.1, 0.0),
    ]:
        rates = [0.1, 0.2, 0.05, 0.01]
        parameters = [torch.randn(6).requires_grad_(), torch.randn(3).requires_grad_()]
        start = [numbers(p) for p in parameters]
        groups = [{"params": [parameters[0]], "weight_decay": decay}, {"params": [parameters[1]], "weight_decay": 0.0}]
        if kind == "sgd":
            optimizer = torch.optim.SGD(groups, lr=1.0, dampening=0.0, **options)
        else:
            betas = (options["beta1"], options["beta2"])
            optimizer = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=1e-8)
        gradients, after = [], []
        for rate in rates:
            for p in parameters:
                p.grad = 2 * torch.randn_like(p)
            gradients.append([numbers(p.grad) for p in parameters])
            if clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            after.append([numbers(p) for p in parameters])
        cases.append({
            "optimizer": {"kind": kind, **options}, "decay": decay, "clip": clip, "rates": rates,
            "start": start, "gradients": gradients, "after": after,
        })
    return cases


def averages():
    """torch.optim.swa_utils' exponential average of three updates."""
    decay, model = 0.75, torch.nn.Linear(3, 1, bias=False)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    )
    average.update_parameters(model)  # the first one copies
    values, means = [numbers(model.weight)], []
    for _ in range(3):
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, 3))
        average.update_parameters(model)
        values.append(numbers(model.weight))
        means.append(numbers(average.module.weight))
    return {"decay": decay, "values": values, "means": means}


print(json.dumps({"losses": losses(), "descents": descents(), "average": averages()}, indent=1))
