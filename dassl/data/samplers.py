"""In which order items come, and how they are mixed."""

import random
from collections import defaultdict

from torch.utils.data.sampler import RandomSampler, Sampler, SequentialSampler

from dassl.utils import InputError, check_availability


class GroupSampler(Sampler):
    """Batches of `group_count` groups (domains or classes) with equally many items of each; sampled without return.

    An epoch ends when too few groups are left that can still fill their share of a batch. All of it is drawn at once:
    workers are asked for batches ahead of time.
    """

    def __init__(self, groups: dict[int, list[int]], batch_size: int, group_count: int):
        if group_count < 1 or group_count > len(groups) or batch_size % group_count:
            raise InputError(
                f"A batch of {batch_size} cannot hold equal parts of {group_count} groups, where there are {len(groups)}: "
                "change BATCH_SIZE, N_DOMAIN or N_INS."
            )
        self.groups, self.group_count, self.share = groups, group_count, batch_size // group_count
        self.length = len(self.draw())

    def __iter__(self):
        return iter(self.draw())

    def draw(self) -> list[int]:
        """The order of an epoch."""
        drawn: list[int] = []
        left = {key: random.sample(items, len(items)) for key, items in self.groups.items()}
        while True:
            able = [key for key, items in left.items() if len(items) >= self.share]
            if len(able) < self.group_count:
                return drawn
            for key in random.sample(able, self.group_count):
                drawn += left[key][: self.share]
                left[key] = left[key][self.share :]

    def __len__(self) -> int:
        return self.length


def _indices_by(data_source, key: str) -> dict[int, list[int]]:
    groups = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, key)].append(index)
    return groups


class RandomDomainSampler(GroupSampler):
    """Some domains a batch, at random; `n_domain` below 1 takes all."""

    def __init__(self, data_source, batch_size: int, n_domain: int):
        groups = _indices_by(data_source, "domain")
        super().__init__(groups, batch_size, n_domain if n_domain > 0 else len(groups))


class SeqDomainSampler(RandomDomainSampler):
    """All domains in every batch, in order."""

    def __init__(self, data_source, batch_size: int):
        super().__init__(data_source, batch_size, 0)

    def draw(self) -> list[int]:
        drawn: list[int] = []
        left = {key: random.sample(items, len(items)) for key, items in sorted(self.groups.items())}
        while all(len(items) >= self.share for items in left.values()):
            for key in left:
                drawn += left[key][: self.share]
                left[key] = left[key][self.share :]
        return drawn


class RandomClassSampler(GroupSampler):
    """`n_ins` images of each of some classes a batch."""

    def __init__(self, data_source, batch_size: int, n_ins: int):
        if n_ins < 1 or batch_size < n_ins:
            raise InputError(
                f"A batch of {batch_size} cannot hold {n_ins} images of a class: change BATCH_SIZE or N_INS."
            )
        groups = _indices_by(data_source, "label")
        filled = {  # a class with too few images gives some more than once
            key: items if len(items) >= n_ins else items + random.choices(items, k=n_ins - len(items))
            for key, items in groups.items()
        }
        super().__init__(filled, batch_size, min(batch_size // n_ins, len(filled)) if batch_size % n_ins == 0 else 0)


SAMPLERS = ["RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler"]


def build_sampler(
    sampler_type: str, cfg=None, data_source=None, batch_size: int = 32, n_domain: int = 0, n_ins: int = 16
):
    """A sampler by name."""
    check_availability(sampler_type, SAMPLERS, "sampler")
    if sampler_type == "RandomSampler":
        return RandomSampler(data_source)
    if sampler_type == "SequentialSampler":
        return SequentialSampler(data_source)
    if sampler_type == "RandomDomainSampler":
        return RandomDomainSampler(data_source, batch_size, n_domain)
    if sampler_type == "SeqDomainSampler":
        return SeqDomainSampler(data_source, batch_size)
    return RandomClassSampler(data_source, batch_size, n_ins)
