"""Items, sampling, transforms and loaders (../dassl/data)."""

import os
import random
import signal

import pytest
import torch
from PIL import Image

import datasets  # noqa: F401  registers
from dassl.config import get_cfg_default, merge_options
from dassl.data import DataManager, DatasetWrapper, data_manager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.utils import InputError
from tests.helpers import REPOSITORY  # noqa: F401


@pytest.fixture
def items(tmp_path):
    """Ten pictures: labels 2, 0, 1 in turn, two domains."""
    made = []
    for i in range(10):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (20, 10), (i * 20, 0, 0)).save(path)
        made.append(Datum(str(path), label=(2, 0, 1)[i % 3], domain=i % 2, classname="cab"[i % 3]))
    return made


def config(*options):
    cfg = get_cfg_default()
    merge_options(cfg, ["INPUT.SIZE", (8, 8), "DATALOADER.NUM_WORKERS", 0, *options])
    return cfg


def test_datum(items):
    assert (items[0].impath, items[0].label, items[0].domain, items[0].classname) == (items[0]._impath, 2, 0, "c")
    with pytest.raises(InputError, match=r"nowhere\.png does not exist"):
        Datum("nowhere.png")
    with pytest.raises(AttributeError):
        items[0].label = 3


def test_names_come_in_the_order_of_labels(items):
    dataset = DatasetBase(train_x=items, test=items)
    assert (
        dataset.classnames == ["a", "b", "c"]
        and dataset.lab2cname == {0: "a", 1: "b", 2: "c"}
        and dataset.num_classes == 3
    )
    assert DatasetBase(train_x=items[:1]).num_classes == 3  # largest label + 1
    with pytest.raises(InputError, match="no training images"):
        DatasetBase(train_x=[])


def test_few_shots(items):
    """Labels in the order of their first item; four of class 2, three of the others."""
    dataset = DatasetBase(train_x=items)
    by_label = [[i for i in items if i.label == label] for label in (2, 0, 1)]
    random.seed(1)
    expected = [x for group in by_label for x in random.sample(group, 2)]
    random.seed(1)
    assert dataset.generate_fewshot_dataset(items, num_shots=2) == expected
    random.seed(1)
    expected = random.sample(by_label[0], 4) + by_label[1] + by_label[2]  # too few: all of them
    random.seed(1)
    assert dataset.generate_fewshot_dataset(items, num_shots=4) == expected
    random.seed(1)
    expected = random.sample(by_label[0], 4) + random.choices(by_label[1], k=4) + random.choices(by_label[2], k=4)
    random.seed(1)
    assert dataset.generate_fewshot_dataset(items, num_shots=4, repeat=True) == expected
    assert dataset.generate_fewshot_dataset(items) is items
    assert [len(part) for part in dataset.generate_fewshot_dataset(items, items, num_shots=1)] == [3, 3]


# --- transforms ------------------------------------------------------------------------------------------------------


def names(transform):
    return [type(step).__name__ for step in transform.transforms]


def test_training_transforms_in_order():
    chosen = [
        "instance_norm", "gaussian_noise", "normalize", "cutout", "gaussian_blur", "randomgrayscale", "colorjitter", "randaugment",
        "imagenet_policy", "random_flip", "random_resized_crop", "random_crop", "random_translation",
    ]  # fmt: skip
    assert names(build_transform(config("INPUT.TRANSFORMS", tuple(chosen)), is_train=True)) == [
        "Random2DTranslation", "RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip", "AutoAugment", "RandAugment", "ColorJitter",
        "RandomGrayscale", "RandomApply", "ToTensor", "Cutout", "Normalize", "GaussianNoise", "InstanceNormalization",
    ]  # fmt: skip


@pytest.mark.parametrize("crop", [None, "random_crop", "random_resized_crop"])
def test_training_resizes_only_without_a_crop(crop):
    cfg = config("INPUT.TRANSFORMS", (crop, "normalize") if crop else ("normalize",))
    assert ("Resize" in names(build_transform(cfg))) == (crop is None)


def test_test_transforms():
    cfg = config(
        "INPUT.TRANSFORMS", ("random_flip", "normalize"), "INPUT.INTERPOLATION", "bicubic", "INPUT.SIZE", (8, 6)
    )
    transform = build_transform(cfg, is_train=False)
    assert names(transform) == ["Resize", "CenterCrop", "ToTensor", "Normalize"]
    assert transform.transforms[0].size == 8 and transform.transforms[0].interpolation == INTERPOLATION_MODES["bicubic"]
    assert transform(Image.new("RGB", (20, 10))).shape == (3, 8, 6)


@pytest.mark.parametrize(
    "name",
    ["random_translation", "cutout", "gaussian_noise", "instance_norm", "random_crop", "svhn_policy", "gaussian_blur"],
)
def test_every_transform_gives_a_picture(name):
    cfg = config("INPUT.TRANSFORMS", (name,), "INPUT.GB_K", 3)
    picture = Image.effect_noise((20, 10), 90).convert("RGB").resize((8, 8))
    for _ in range(5):
        out = build_transform(cfg)(picture)
        assert out.shape == (3, 8, 8) and torch.isfinite(out).all()


def test_a_picture_too_small_for_a_crop():
    cfg = config("INPUT.TRANSFORMS", ("random_crop",), "INPUT.CROP_PADDING", 1)  # to 8 x 8
    assert build_transform(cfg)(Image.new("RGB", (6, 7))).shape == (3, 8, 8)
    for size in ((5, 8), (8, 5)):
        with pytest.raises(
            InputError, match=f"8 x 8 pixels of an image of {size[1]} x {size[0]}.*choose random_resized_crop"
        ):
            build_transform(cfg)(Image.new("RGB", size))


def test_random_flip_and_normalize_do_something():
    cfg = config(
        "INPUT.TRANSFORMS", ("normalize",), "INPUT.PIXEL_MEAN", [1.0, 0.0, 0.0], "INPUT.PIXEL_STD", [0.5, 1.0, 1.0]
    )
    out = build_transform(cfg)(Image.new("RGB", (8, 8), (255, 255, 0)))
    assert out[:, 0, 0].tolist() == [0.0, 1.0, 0.0]


def test_unknown_transform():
    with pytest.raises(InputError, match="'random_flop' is unknown; the nearest name is 'random_flip'"):
        build_transform(config("INPUT.TRANSFORMS", ("random_flop",)))


# --- loaders ---------------------------------------------------------------------------------------------------------


def test_items_of_a_batch(items):
    cfg = config("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True)
    item = DatasetWrapper(cfg, items, transform=build_transform(cfg), is_train=True)[3]
    assert len(item["img"]) == 2 and item["img0"].shape == (3, 8, 8)
    assert (item["label"], item["domain"], item["impath"], item["index"]) == (2, 1, items[3].impath, 3)
    item = DatasetWrapper(config(), items, transform=build_transform(cfg), is_train=False)[3]
    assert item["img"].shape == (3, 8, 8) and "img0" not in item


@pytest.mark.parametrize(
    ("count", "batch", "is_train", "expected"),
    [(10, 4, True, [4, 4]), (10, 4, False, [4, 4, 2]), (3, 4, True, [3]), (4, 4, True, [4])],
)
def test_the_last_batch(items, count, batch, is_train, expected):
    """Dropped in training, if there is a full one; a training loader is never empty."""
    loader = build_data_loader(
        config(), "SequentialSampler", items[:count], batch, tfm=build_transform(config()), is_train=is_train
    )
    assert [len(b["label"]) for b in loader] == expected


def test_no_images():
    with pytest.raises(InputError, match="no images"):
        build_data_loader(config(), data_source=[])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named_and_nothing_hangs(items, workers):
    with open(items[1].impath, "wb") as file:
        file.write(b"no picture")
    cfg = config("DATALOADER.NUM_WORKERS", workers)
    with pytest.raises(InputError, match=r"1\.png cannot be read"):
        list(build_data_loader(cfg, data_source=items, tfm=build_transform(cfg), is_train=False))


@pytest.mark.parametrize("asked, given", [(0, 0), (1, 1), (8, 2)])
def test_no_more_workers_than_cores(items, monkeypatch, asked, given):
    """PyTorch would warn of them; the config, and so the record, keeps what was asked for."""
    monkeypatch.setattr(data_manager, "cores", lambda: 2)
    cfg = config("DATALOADER.NUM_WORKERS", asked)
    assert build_data_loader(cfg, data_source=items, tfm=build_transform(cfg)).num_workers == given
    assert asked == cfg.DATALOADER.NUM_WORKERS


@pytest.mark.filterwarnings("error")
def test_many_workers_are_no_warning(items):
    cfg = config("DATALOADER.NUM_WORKERS", 1000)
    assert 0 < build_data_loader(cfg, data_source=items, tfm=build_transform(cfg)).num_workers < 1000


def test_samplers(items):
    assert list(build_sampler("SequentialSampler", data_source=items)) == list(range(10))
    assert sorted(build_sampler("RandomSampler", data_source=items)) == list(range(10))
    for kind, n_domain in (("RandomDomainSampler", 2), ("SeqDomainSampler", 0)):
        sampler = build_sampler(kind, data_source=items, batch_size=4, n_domain=n_domain)
        indices = list(sampler)
        assert len(indices) == len(sampler) == len(set(indices)) == 8
        assert all(sorted(items[i].domain for i in indices[b : b + 4]) == [0, 0, 1, 1] for b in (0, 4))
    indices = list(build_sampler("RandomClassSampler", data_source=items, batch_size=4, n_ins=2))
    for b in range(0, len(indices), 4):
        labels = [items[i].label for i in indices[b : b + 4]]
        assert labels[0] == labels[1] != labels[2] == labels[3]
    with pytest.raises(InputError, match="cannot hold"):
        build_sampler("RandomDomainSampler", data_source=items, batch_size=5, n_domain=2)
    with pytest.raises(InputError, match="'Random' is unknown"):
        build_sampler("Random", data_source=items)


def test_data_manager(data_root, capsys):
    cfg = config(
        "DATASET.NAME",
        "Caltech101",
        "DATASET.ROOT",
        str(data_root),
        "DATASET.NUM_SHOTS",
        2,
        "DATALOADER.TEST.BATCH_SIZE",
        7,
    )
    manager = DataManager(cfg)
    assert manager.num_classes == 5 and manager.lab2cname[3] == "dark_grey"
    assert manager.train_loader_u is None
    order = [index for batch in manager.test_loader for index in batch["index"].tolist()]
    assert order == list(range(20))
    assert "# train_x  10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("SIZE", (224, 224, 3), r"INPUT.SIZE is \(224, 224, 3\): it takes height and width"),
        ("SIZE", (0, 224), "INPUT.SIZE is"),
        ("PIXEL_STD", [0.5, 0.0, 0.5], "INPUT.PIXEL_STD is .* divided by it"),
        ("PIXEL_STD", [0.5], "INPUT.PIXEL_STD is .* three numbers"),
        ("PIXEL_MEAN", [0.5, float("nan"), 0.5], "INPUT.PIXEL_MEAN is .* three numbers"),
        ("RRCROP_SCALE", (0.5, 0.1), "INPUT.RRCROP_SCALE is .* two shares"),
    ],
)
@pytest.mark.parametrize("is_train", [True, False])
def test_values_that_no_transform_takes(key, value, says, is_train):
    with pytest.raises(InputError, match=says) as error:
        build_transform(config(f"INPUT.{key}", value, "INPUT.TRANSFORMS", ("normalize",)), is_train)
    assert "\n" not in str(error.value)


def test_a_step_that_refuses_its_values():
    with pytest.raises(InputError, match="gaussian_blur cannot be made .*odd.* under INPUT"):
        build_transform(config("INPUT.GB_K", 4, "INPUT.TRANSFORMS", ("gaussian_blur",)))


def test_a_crop_of_more_than_there_is():
    cfg = config("INPUT.SIZE", (64, 64), "INPUT.TRANSFORMS", ("random_crop",), "INPUT.CROP_PADDING", 4)
    crop = build_transform(cfg)
    assert crop(Image.new("RGB", (56, 80))).shape == (3, 64, 64)
    with pytest.raises(
        InputError, match="64 x 64 pixels of an image of 80 x 55, with 4 around it: choose random_resized"
    ):
        crop(Image.new("RGB", (55, 80)))


# --- signals -----------------------------------------------------------------------------------------------------


def test_a_signal_waits_until_the_workers_can_take_it():
    came = []
    former = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with data_manager.workers_beginning():
            signal.raise_signal(signal.SIGTERM)  # to this thread
            assert not came
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_worker_ends_without_a_word_and_ignores_what_the_run_ignores():
    with data_manager.workers_beginning():
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGTERM)
            data_manager.begin_worker(lambda _: os._exit(1), 0)  # which is not come to
        assert os.waitpid(pid, 0)[1] == 0
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGHUP)
            data_manager.begin_worker(lambda _: os._exit(3), 0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
