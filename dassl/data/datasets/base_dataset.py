"""An item (`Datum`) and what all data sets can do (`DatasetBase`)."""

import os
import random
from collections import defaultdict
from collections.abc import Sequence

from dassl.utils import InputError, check_availability


class Datum:
    """One image: its path, its label, the number of its domain and the name of its class."""

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""):
        if not isinstance(impath, str) or not os.path.isfile(impath):
            raise InputError(f"The image {impath} does not exist: restore it, or take it out of the list.")
        self._impath, self._label, self._domain, self._classname = impath, label, domain, classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


class DatasetBase:
    """Training items with and without labels, validation and test items; `None` where there are none."""

    dataset_dir = ""  # folder under the data root
    domains: Sequence[str] = ()

    def __init__(self, train_x: list[Datum] | None = None, train_u=None, val=None, test=None):
        if not train_x:
            raise InputError(f"{type(self).__name__} has no training images: check its folder and its split file.")
        self._train_x, self._train_u, self._val, self._test = train_x, train_u, val, test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def train_u(self):
        return self._train_u

    @property
    def val(self):
        return self._val

    @property
    def test(self):
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: list[Datum]) -> int:
        """Largest label + 1."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: list[Datum]) -> tuple[dict[int, str], list[str]]:
        """Class names by label, and in the order of labels."""
        names = {item.label: item.classname for item in data_source}
        return names, [names[label] for label in sorted(names)]

    def check_input_domains(self, source_domains: Sequence[str], target_domains: Sequence[str]) -> None:
        for domain in [*source_domains, *target_domains]:
            check_availability(domain, list(self.domains), "domain")

    def generate_fewshot_dataset(self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False):
        """`num_shots` items of each class, drawn by Python's `random`; one list for each source, alone if it is one.

        Classes come in the order of their first item. One with fewer items gives all of them, or, with `repeat`,
        some more than once.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        sampled = []
        for source in data_sources:
            chosen = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    chosen += random.sample(items, num_shots)
                else:
                    chosen += random.choices(items, k=num_shots) if repeat else items
            sampled.append(chosen)
        return sampled[0] if len(sampled) == 1 else sampled

    def split_dataset_by_label(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        return _group(data_source, lambda item: item.label)

    def split_dataset_by_domain(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        return _group(data_source, lambda item: item.domain)


def _group(items, key) -> dict:
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
