"""Chance that follows from numbers, and not from which process draws."""

import contextlib
import random

import numpy as np
import torch
from torch.utils.data import Dataset


@contextlib.contextmanager
def seeded(*numbers: int):
    """What `random`, NumPy and PyTorch draw on the CPU inside follows from `numbers`; outside they go on as before."""
    words = np.random.SeedSequence(numbers).generate_state(3, np.uint64).tolist()
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(words[0])
        np.random.seed(words[1] % 2**32)
        torch.default_generator.manual_seed(words[2])  # torch.manual_seed is a GPU's too, which is not put back
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def next_number() -> int:
    """The number from 0 to 2 ** 63 that PyTorch's generator on the CPU gives next; it is not used up."""
    with torch.random.fork_rng(devices=[]):
        return int(torch.empty((), dtype=torch.int64).random_())


class SeededBatches(Dataset):
    """Items whose chance follows from a number that their loader sets for each pass, and from the batch they are in."""

    base_seed: int | None = None  # without one, items draw from the generators as they stand

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """A batch, as PyTorch's loaders ask for it, in whichever process."""
        with seeded(self.base_seed, *indices) if self.base_seed is not None else contextlib.nullcontext():
            return [self[index] for index in indices]
