"""`build_optimizer`: PyTorch's optimisers with the config's settings."""

from collections.abc import Iterable

import torch
import torch.nn as nn

from ..errors import InputError

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(model: nn.Module | Iterable, optim_cfg, param_groups=None) -> torch.optim.Optimizer:
    """An optimiser over a module's parameters, or over parameters or groups given directly."""
    name = optim_cfg.NAME
    if name not in AVAI_OPTIMS:
        raise InputError(f"OPTIM.NAME is {name!r}: choose one of {', '.join(AVAI_OPTIMS)}.")
    if param_groups is None:
        param_groups = parameters_of(model, optim_cfg)
    lr, decay = optim_cfg.LR, optim_cfg.WEIGHT_DECAY
    betas, eps = (
        (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2),
        optim_cfg.get("ADAM_EPS", 1e-8),
    )  # upstream has no such key
    if name in ("adam", "amsgrad"):
        return torch.optim.Adam(
            param_groups, lr=lr, weight_decay=decay, betas=betas, eps=eps, amsgrad=name == "amsgrad"
        )
    if name == "adamw":
        return torch.optim.AdamW(param_groups, lr=lr, weight_decay=decay, betas=betas, eps=eps)
    if name == "radam":
        return torch.optim.RAdam(param_groups, lr=lr, weight_decay=decay, betas=betas, eps=eps)
    if name == "rmsprop":
        momentum, alpha = optim_cfg.MOMENTUM, optim_cfg.RMSPROP_ALPHA
        return torch.optim.RMSprop(param_groups, lr=lr, momentum=momentum, weight_decay=decay, alpha=alpha)
    if optim_cfg.SGD_NESTEROV and (optim_cfg.MOMENTUM <= 0 or optim_cfg.SGD_DAMPNING != 0):
        raise InputError(
            "OPTIM.SGD_NESTEROV True needs a momentum without dampening: set MOMENTUM above 0, SGD_DAMPNING 0."
        )
    return torch.optim.SGD(
        param_groups,
        lr=lr,
        momentum=optim_cfg.MOMENTUM,
        weight_decay=decay,
        dampening=optim_cfg.SGD_DAMPNING,
        nesterov=optim_cfg.SGD_NESTEROV,
    )


def parameters_of(model, optim_cfg):
    """Parameters, or with STAGED_LR two groups: the children in NEW_LAYERS, by exact name, and the others."""
    if not isinstance(model, nn.Module):
        return model
    if not optim_cfg.STAGED_LR:
        return model.parameters()
    new_layers = [optim_cfg.NEW_LAYERS] if isinstance(optim_cfg.NEW_LAYERS, str) else list(optim_cfg.NEW_LAYERS)
    children = dict(model.named_children())
    for name in new_layers:
        if name not in children:
            raise InputError(
                f"OPTIM.NEW_LAYERS names {name!r}, which is no child of the model: choose among {', '.join(children)}."
            )
    groups = {True: [], False: []}
    for name, child in children.items():
        groups[name in new_layers] += list(child.parameters())
    groups[False] += list(model.parameters(recurse=False))
    return [
        {"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT},
        {"params": groups[True], "lr": optim_cfg.LR},
    ]
