"""Chance in transforms (../dassl/data/chance.py): the same crops whichever process draws them, and new ones each time."""

import itertools
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default, merge_options
from dassl.data import DatasetWrapper, data_manager
from dassl.data.chance import seeded
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.engine.trainer import cycle
from dassl.utils import set_random_seed

WORKERS = [0, 1, 2]
SAMPLERS = ["RandomSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler"]


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr(data_manager, "cores", lambda: 2)


@pytest.fixture
def items(tmp_path):
    """Twelve pictures of noise, of two domains; the last class has one picture alone."""
    rng, made = np.random.default_rng(0), []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
        made.append(Datum(str(path), label=min(i // 3, 2) if i < 11 else 3, domain=i % 2))
    return made


def draws(_) -> torch.Tensor:
    """A transform of chance alone: a number (3,) of each generator that a transform may draw from."""
    return torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))], dtype=torch.float64)


def loader_of(items, workers=0, sampler="RandomSampler", tfm=draws, batch=4, **keys):
    cfg = get_cfg_default()
    options = [value for key, number in keys.items() for value in (f"DATALOADER.{key}", number)]
    merge_options(cfg, ["INPUT.SIZE", (8, 8), "DATALOADER.NUM_WORKERS", workers, *options])
    return build_data_loader(cfg, sampler, items, batch, n_domain=2, n_ins=2, tfm=tfm)


def drawn(batches) -> tuple[torch.Tensor, torch.Tensor]:
    """Which items came (n), and what was drawn for each (n, 3)."""
    batches = list(batches)
    return torch.cat([batch["index"] for batch in batches]), torch.cat([batch["img"] for batch in batches])


def same_for_all_workers(result) -> tuple:
    """`result(workers)`, tensors, after the same seed."""
    found = []
    for workers in WORKERS:
        set_random_seed(3)
        tensors = result(workers)
        found.append((*tensors, torch.rand(3), torch.tensor(random.random()), torch.tensor(np.random.rand())))
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))
    return found[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_workers_change_nothing(items, sampler):
    """Neither the order of items, nor what is drawn for them, in several epochs of a run that draws between batches."""

    def epochs(workers):
        loader, found = loader_of(items, workers, sampler), []
        for batch in itertools.chain(loader, loader, loader):
            found += [batch["index"], batch["img"], draws(None)]
        return found

    same_for_all_workers(epochs)


def test_nor_with_all_of_our_transforms(items):
    names = (
        "random_translation",
        "random_resized_crop",
        "random_flip",
        "randaugment",
        "colorjitter",
        "cutout",
        "gaussian_noise",
    )

    def versions(workers):
        cfg = get_cfg_default()
        merge_options(cfg, ["INPUT.SIZE", (8, 8), "INPUT.TRANSFORMS", names, "INPUT.CUTOUT_LEN", 2])
        loader = loader_of(items, workers, tfm=build_transform(cfg), K_TRANSFORMS=2, RETURN_IMG0=True)
        return [image for batch in loader for image in (*batch["img"], batch["img0"])]

    first, second, _, *_ = same_for_all_workers(versions)
    assert not torch.equal(first, second)  # two versions of the same pictures


def test_nor_where_two_loaders_are_gone_through_in_turns(items):
    """Unequal lengths, so that one begins anew within the other's epoch; and iterators made before any is asked."""

    def by_cycle(workers):
        long, short = cycle(loader_of(items, workers)), cycle(loader_of(items[:5], workers))
        return drawn(next(each) for _ in range(4) for each in (long, short))

    def by_hand(workers):
        long, short = iter(loader_of(items, workers)), iter(loader_of(items[:9], workers))
        return drawn(next(each) for _ in range(2) for each in (long, short))

    index, numbers = same_for_all_workers(by_cycle)[:2]
    assert len(numbers.unique(dim=0)) == len(index) == 32
    same_for_all_workers(by_hand)


def test_each_epoch_and_each_item_has_its_own(items):
    loader = loader_of(items, sampler="SequentialSampler")
    numbers = torch.cat([drawn(loader)[1] for _ in range(3)])  # (36, 3)
    assert all(len(column.unique()) == 36 for column in numbers.T)
    set_random_seed(1)
    first = drawn(loader_of(items))[1]
    set_random_seed(2)
    assert not torch.isin(drawn(loader_of(items))[1], first).any()


def test_an_item_that_comes_twice_in_a_batch(items):
    """RandomClassSampler fills up a class that has one picture: two views of it, and not the same one twice."""
    index, numbers = drawn(loader_of(items, sampler="RandomClassSampler"))
    again = numbers[index == 11]
    assert len(again) == len(again.unique(dim=0)) == 2


def test_an_item_without_a_loader_is_drawn_from_the_runs_generators(items):
    """As code that has its own loaders, or none, expects."""
    dataset = loader_of(items).dataset
    set_random_seed(1)
    expected = [draws(None) for _ in range(2)]
    set_random_seed(1)
    assert all(map(torch.equal, [dataset[0]["img"] for _ in range(2)], expected))
    set_random_seed(1)
    (batch,) = torch.utils.data.DataLoader(DatasetWrapper(dataset.cfg, items, transform=draws), batch_size=len(items))
    assert torch.equal(batch["img"][0, :2], expected[0][:2])  # PyTorch's loader has drawn a number of its own


def test_seeded(monkeypatch):
    """Inside it follows from the numbers alone; outside, nothing was drawn, not even if it ended in an error."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", None)  # a GPU's generators are not put back, nor seeded

    def three():
        return draws(None).tolist()

    torch.default_generator.manual_seed(1)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = three()
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])
    with seeded(1, 2):
        first = three()
    with pytest.raises(ZeroDivisionError), seeded(2, 1):
        other = three()
        1 / 0  # noqa: B018
    assert three() == expected
    with seeded(1, 2):
        assert three() == first
    assert not set(first) & set(other)
