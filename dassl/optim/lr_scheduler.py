"""`build_lr_scheduler`: one scheduler whose rate is a plain function of the epoch, warm-up included.

It holds numbers only, so a resumed run goes on exactly where it stopped.
"""

import math

from torch.optim.lr_scheduler import LRScheduler

from ..errors import InputError

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
AVAI_WARMUPS = ["linear", "constant"]


class EpochScheduler(LRScheduler):
    """Learning rates by epoch: a warm-up of some epochs, then steps or half a cosine down from the base rate.

    `settings` are the numbers of the config, under the names they have there.
    """

    def __init__(self, optimizer, settings: dict):
        self.settings = settings
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [self.rate(base, self.last_epoch) for base in self.base_lrs]

    def go_to(self, epoch: int) -> None:
        """The rates of an epoch, whatever went before."""
        self.last_epoch, self._step_count = epoch, epoch + 1  # PyTorch counts the first rates as a step
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def rate(self, base: float, epoch: int) -> float:
        s = self.settings
        warmup = max(s["WARMUP_EPOCH"], 0)
        if epoch < warmup:
            if s["WARMUP_TYPE"] == "constant":
                return s["WARMUP_CONS_LR"]
            return s["WARMUP_MIN_LR"] if epoch == 0 else base * epoch / warmup
        if s["WARMUP_RECOUNT"]:
            epoch -= warmup
        if s["LR_SCHEDULER"] == "cosine":
            return base * 0.5 * (1 + math.cos(math.pi * epoch / s["MAX_EPOCH"]))
        if s["LR_SCHEDULER"] == "multi_step":
            return base * s["GAMMA"] ** sum(epoch >= milestone for milestone in s["STEPSIZE"])
        step = s["STEPSIZE"][-1]
        return base * s["GAMMA"] ** (epoch // step if step > 0 else 0)


def build_lr_scheduler(optimizer, optim_cfg) -> EpochScheduler:
    """The schedule that OPTIM describes; `step()` it once an epoch."""
    if optim_cfg.LR_SCHEDULER not in AVAI_SCHEDS:
        raise InputError(f"OPTIM.LR_SCHEDULER is {optim_cfg.LR_SCHEDULER!r}: choose one of {', '.join(AVAI_SCHEDS)}.")
    if optim_cfg.WARMUP_EPOCH > 0 and optim_cfg.WARMUP_TYPE not in AVAI_WARMUPS:
        raise InputError(f"OPTIM.WARMUP_TYPE is {optim_cfg.WARMUP_TYPE!r}: choose one of {', '.join(AVAI_WARMUPS)}.")
    stepsize = optim_cfg.STEPSIZE
    names = (
        "LR_SCHEDULER",
        "GAMMA",
        "MAX_EPOCH",
        "WARMUP_EPOCH",
        "WARMUP_TYPE",
        "WARMUP_CONS_LR",
        "WARMUP_MIN_LR",
        "WARMUP_RECOUNT",
    )
    settings = {name: optim_cfg[name] for name in names}
    settings["STEPSIZE"] = [stepsize] if isinstance(stepsize, int) else list(stepsize)
    return EpochScheduler(optimizer, settings)
