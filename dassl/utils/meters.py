"""Running averages for the progress line."""

from collections import defaultdict

import torch

from .readings import Readings

__all__ = ["AverageMeter", "MetricMeter"]


class AverageMeter:
    """The latest value and the average; with `ema`, an exponential moving average instead.

    >>> losses = AverageMeter()
    >>> losses.update(0.5, n=32)
    """

    def __init__(self, ema: bool = False):
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.val, self.avg, self.sum, self.count = 0.0, 0.0, 0.0, 0

    def update(self, val, n: int = 1) -> None:
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = self.avg * 0.9 + self.val * 0.1 if self.ema else self.sum / self.count


class MetricMeter:
    """A set of named averages, printed as `name value (average)`; tensors on a GPU are read when somebody looks.

    `readings` are those of others that are to be fetched together with these.
    """

    def __init__(self, delimiter: str = " ", readings: Readings | None = None):
        self.readings = Readings() if readings is None else readings
        self._meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    @property
    def meters(self) -> dict[str, AverageMeter]:
        self.readings.fetch()
        return self._meters

    def update(self, input_dict: dict | None) -> None:
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(
                f"A trainer's forward_backward returned a {type(input_dict).__name__}: return a dict of numbers."
            )
        for name, value in input_dict.items():
            self.readings.add(value, self._meters[name].update)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
