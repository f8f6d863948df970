"""Pictures that are decoded once, in memory and on disk (../dassl/data/cache.py): the same bits, and nothing read twice."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import time

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from PIL import Image

import datasets  # noqa: F401  registers
from dassl.config import get_cfg_default, merge_options
from dassl.data import DataManager, DatasetWrapper, cache, data_manager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.utils import InputError
from tests.helpers import REPOSITORY  # noqa: F401

CROPS = ("random_resized_crop", "random_flip", "normalize")
fork = multiprocessing.get_context("fork")


def config(*options):
    cfg = get_cfg_default()
    merge_options(cfg, ["INPUT.SIZE", (8, 8), "DATALOADER.NUM_WORKERS", 0, "INPUT.INTERPOLATION", "bicubic", *options])
    return cfg


@pytest.fixture
def items(tmp_path):
    """Pictures of every odd kind: colour, grey, 16-bit, palette, transparent, turned by EXIF, one pixel wide, CMYK."""
    rng, made = np.random.default_rng(0), []
    (tmp_path / "images").mkdir()

    def add(name, picture, **options):
        picture.save(tmp_path / "images" / name, **options)
        made.append(Datum(str(tmp_path / "images" / name), label=len(made), classname=name))

    def noise(width, height):
        return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))

    turned = noise(24, 12)
    turned.getexif()[0x0112] = 6  # orientation: a quarter turn
    add("colour.jpg", noise(30, 20))
    add("grey.png", noise(9, 31).convert("L"))
    add("deep.png", Image.fromarray(rng.integers(0, 65535, (12, 14), dtype=np.uint16)))
    add("palette.png", noise(20, 20).convert("P"))
    add("clear.png", noise(17, 10).convert("RGBA"))
    add("turned.jpg", turned, exif=turned.getexif())
    add("thin.png", noise(1, 40))
    add("press.jpg", noise(16, 16).convert("CMYK"))
    return made


@pytest.fixture
def reads(monkeypatch):
    """The paths that were decoded in this process."""
    seen, read = [], data_manager.read_image

    def counted(path):
        seen.append(path)
        return read(path)

    monkeypatch.setattr(data_manager, "read_image", counted)
    monkeypatch.setattr(cache, "read_image", counted)
    monkeypatch.setattr(cache.inspect, "getsource", lambda _: "reader")
    return seen


def spoil(items) -> None:
    """Put rubbish in place of the images, which only who reads them again can tell: size and time stay."""
    for item in items:
        stat = os.stat(item.impath)
        with open(item.impath, "wb") as file:
            file.write(b"x" * stat.st_size)
        os.utime(item.impath, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def epoch(loader, seed=1) -> list[torch.Tensor]:
    """All tensors that one epoch gives, in order."""
    torch.manual_seed(seed)
    values = [value for batch in loader for value in batch.values()]
    return [
        part for value in values for part in (value if isinstance(value, list) else [value]) if torch.is_tensor(part)
    ]


def loader(items, *options, tfm="own", is_train=True, folder=None):
    cfg = config(*options)
    tfm = build_transform(cfg, is_train) if tfm == "own" else tfm
    made = build_data_loader(cfg, data_source=items, batch_size=4, tfm=tfm, is_train=is_train)
    if folder:
        made.dataset.cache_on_disk(str(folder))
    return made


def same(left, right) -> bool:
    return len(left) == len(right) > 0 and all(map(torch.equal, left, right))


# --- what can be stored -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "first", "size"),
    [
        ([T.Resize((8, 6)), T.ToTensor()], 1, (8, 6)),
        ([T.Resize(8), T.CenterCrop([8, 6]), T.ToTensor()], 2, (8, 6)),
        ([T.CenterCrop(8), T.Resize(4), T.ToTensor()], 1, (8, 8)),  # the second gives other sizes for other pictures
        ([T.Resize((8, 8)), T.RandomHorizontalFlip(), T.ToTensor()], 1, (8, 8)),
        ([T.Resize(8), T.ToTensor()], 0, None),
        ([T.Resize([8]), T.ToTensor()], 0, None),
        ([T.RandomResizedCrop(8), T.Resize((8, 8)), T.ToTensor()], 0, None),
        ([T.ToTensor(), T.Resize((8, 8))], 0, None),
    ],
)
def test_the_first_steps(steps, first, size):
    before, rest, found = cache.split(T.Compose(steps))
    assert (before.transforms, rest.transforms, found) == (steps[:first], steps[first:], size)


def test_what_is_no_list_of_steps_has_no_first_ones():
    for transform in (None, T.Resize((8, 8)), [T.Compose([T.Resize((8, 8))])]):
        before, rest, size = cache.split(transform)
        assert before.transforms == [] and rest is transform and size is None


# --- in memory ----------------------------------------------------------------------------------------------------

WAYS = {
    "crops": ("INPUT.TRANSFORMS", CROPS),
    "fixed": ("INPUT.TRANSFORMS", ("normalize", "instance_norm")),
    "flip": ("INPUT.TRANSFORMS", ("random_flip",)),
    "versions": ("INPUT.TRANSFORMS", ("random_flip", "cutout"), "DATALOADER.K_TRANSFORMS", 2),
    "img0": ("INPUT.TRANSFORMS", ("normalize",), "DATALOADER.RETURN_IMG0", True),
}


@pytest.mark.parametrize("way", WAYS)
def test_kept_images_give_the_same_tensors(items, reads, way):
    plain, kept = (loader(items, *WAYS[way], "DATALOADER.KEEP_MB", mb) for mb in (0, 1))
    expected = [epoch(plain, seed) for seed in (1, 2)]
    reads.clear()
    assert same(epoch(kept, 1), expected[0]) and same(epoch(kept, 2), expected[1])
    assert reads == [item.impath for item in items]


def test_several_transforms_and_none(items):
    several = [T.Compose([T.Resize((8, 8)), T.ToTensor()]), T.Compose([T.CenterCrop(4), T.ToTensor()])]
    plain, kept = (loader(items, "DATALOADER.KEEP_MB", mb, tfm=several) for mb in (0, 1))
    assert {tuple(batch["img2"].shape) for batch in kept} == {(4, 3, 4, 4)}
    assert same(epoch(kept), epoch(plain))
    pictures = DatasetWrapper(config(), items, transform=None, is_train=True)
    for index in range(len(items)):
        once, again = pictures[index]["img"], pictures[index]["img"]
        assert again.mode == "RGB" and np.array_equal(once, again)


@pytest.mark.parametrize("way", ["crops", "fixed"])
def test_workers_share_what_one_of_them_decoded(items, way):
    options = (*WAYS[way], "DATALOADER.NUM_WORKERS", 2)
    plain, kept = (loader(items, *options, "DATALOADER.KEEP_MB", mb) for mb in (0, 1))
    expected = [epoch(plain, seed) for seed in (1, 2)]
    assert same(epoch(kept, 1), expected[0])
    spoil(items)
    assert same(epoch(kept, 2), expected[1])


def test_spawned_workers_share_too(items):
    kept = loader(items, *WAYS["crops"], "DATALOADER.NUM_WORKERS", 1)
    kept.multiprocessing_context = "spawn"
    epoch(kept)
    spoil(items)
    assert len([kept.dataset[index] for index in range(len(items))]) == 8  # in this process now


def test_room_bounds_what_is_kept(items, reads, monkeypatch):
    """Whole pictures, the first of the list; a file without a head takes no room, and one listed twice takes it once."""
    lengths = [3 * 30 * 20, 3 * 9 * 31, 3 * 12 * 14]
    for room, count in ((0, 0), (lengths[0] - 1, 0), (lengths[0], 1), (sum(lengths) - 1, 2), (sum(lengths), 3)):
        store = cache.Kept([item.impath for item in items], room, size=None)
        store.open()
        assert len(store.ends) == count and (store.memory is None if count == 0 else len(store.memory) <= room)
        store = cache.Kept([item.impath for item in items], room, size=(8, 8))
        store.open()
        assert len(store.ends) == min(8, room // 192)
    store = cache.Kept(["nowhere", *[items[0].impath] * 3, items[1].impath], sum(lengths[:2]), size=None)
    store.open()
    assert np.diff(store.ends).tolist() == lengths[:2] and store.ends[0] == 0
    assert store.get(items[0].impath) is None
    for path in (items[0].impath, items[3].impath):  # the second has no place
        store.put(path, np.ones((20, 30, 3), np.uint8))
    store.put(items[1].impath, np.ones((5, 5, 3), np.uint8))  # it does not fit its place
    assert store.get(items[0].impath).shape == (20, 30, 3) and store.get(items[0].impath).all()
    assert store.get(items[1].impath) is None and store.get(items[3].impath) is None and store.get("nowhere") is None

    kept = loader(items, *WAYS["crops"])
    kept.dataset.store.room = sum(lengths)
    expected = epoch(loader(items, *WAYS["crops"], "DATALOADER.KEEP_MB", 0), 2)
    epoch(kept)
    reads.clear()
    assert same(epoch(kept, 2), expected) and reads == [item.impath for item in items[3:]]


def test_nothing_is_read_before_the_first_iteration(items, monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    kept = loader(items, *WAYS["crops"])
    assert kept.dataset.store.places is None and loader(items, "DATALOADER.KEEP_MB", 0).dataset.store is None
    assert loader(items, is_train=False).dataset.store is None


def test_a_trainer_may_exchange_transform_and_items(items, tmp_path):
    dataset = loader(items, *WAYS["fixed"]).dataset
    dataset[0], dataset[1]
    dataset.transform = T.Compose([T.CenterCrop(4), T.ToTensor()])
    assert dataset[0]["img"].shape == dataset[0]["img"].shape == (3, 4, 4)
    plain = loader(items[::-1], "DATALOADER.KEEP_MB", 0, tfm=dataset.transform).dataset
    cached = loader(items, is_train=False, folder=tmp_path / "cache").dataset
    assert cached[0]["img"].shape == (3, 8, 8)
    cached.transform = dataset.transform
    for other in (dataset, cached):
        other.data_source = items[::-1]
        assert all(torch.equal(other[index]["img"], plain[index]["img"]) for index in [*range(8), -1])


def no_memory(*_):
    raise OSError(12, "Cannot allocate memory")


def test_short_memory_is_said_and_stops_nothing(items, monkeypatch, capsys):
    expected = epoch(loader(items, *WAYS["crops"], "DATALOADER.KEEP_MB", 0))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "shared_zeros", no_memory)
        assert same(epoch(loader(items, *WAYS["crops"])), expected)
    assert "decoded each time, as memory for them is short ([Errno 12]" in capsys.readouterr().out
    kept = loader(items, *WAYS["crops"])
    epoch(kept)
    monkeypatch.setattr(torch.Tensor, "share_memory_", no_memory)
    pickle.loads(pickle.dumps(kept.dataset))  # on its way to a spawned worker, where /dev/shm is small
    assert "memory for them is short" in capsys.readouterr().out
    assert kept.dataset.store.memory is None and same(epoch(kept), expected)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("rubbish", [b"no picture", b"cut"])
def test_a_corrupt_image_is_named(items, tmp_path, capsys, workers, is_train, rubbish):
    """A file without a head, or one that ends too early; also while the test set's file is made, which then is not."""
    whole = open(items[5].impath, "rb").read()
    with open(items[5].impath, "wb") as file:
        file.write(whole[:-60] if rubbish == b"cut" else rubbish)
    folder = None if is_train else tmp_path / "cache"
    options = ("DATALOADER.NUM_WORKERS", workers)
    with pytest.raises(InputError, match=r"turned\.jpg cannot be read") as error:
        list(loader(items[4:], *options, is_train=is_train, folder=folder))
    assert is_train or not list(folder.glob("*.npy"))
    assert "goes on" not in capsys.readouterr().out
    error.value.__traceback__ = None  # it holds PyTorch's iterator in a cycle, whose workers stop 5 s after collection
    del error


# --- on disk ------------------------------------------------------------------------------------------------------


def file_in(folder):
    (file,) = folder.glob("*.npy")
    return file


@pytest.mark.filterwarnings("error")  # PyTorch warns of memory that is to be read only
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cached_test_set_gives_the_same_tensors(items, tmp_path, monkeypatch, capsys, workers):
    monkeypatch.setattr(cache, "version_of", os.path.basename)  # so that only who reads a picture sees it spoilt
    folder, options = tmp_path / "cache", ("DATALOADER.NUM_WORKERS", workers)
    expected = epoch(loader(items, *options, is_train=False))
    cached = loader(items, *options, is_train=False, folder=folder)
    assert not folder.exists()  # a run that only trains makes none
    assert same(epoch(cached), expected) and same(epoch(cached), expected)
    assert str(file_in(folder)) in capsys.readouterr().out
    pixels = np.load(file_in(folder))
    assert pixels.shape == (8, 8, 8, 3) and pixels.dtype == np.uint8
    facts = json.loads(file_in(folder).with_suffix(".json").read_text())
    assert facts["shape"] == [8, 8, 8, 3] and facts["pillow"] and "bicubic" in facts["steps"][0]
    spoil(items)
    again = loader(items, *options, is_train=False, folder=folder)
    assert same(epoch(again), expected) and capsys.readouterr().out == ""
    assert not sorted(folder.glob(".*"))


def test_a_spawned_worker_maps_the_file_itself(items, tmp_path):
    dataset = loader(items, is_train=False, folder=tmp_path / "cache").dataset
    expected = dataset[2]["img"]
    spoil(items)
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    dataset = pickle.loads(sent)
    assert dataset.store.pixels is None and torch.equal(dataset[2]["img"], expected)


def test_what_a_file_is_of(items, tmp_path, reads):
    """What comes after the picture does not matter, nor where the data root is; what the bytes depend on does."""
    folder, root, options = tmp_path / "cache", str(tmp_path / "images"), ("INPUT.TRANSFORMS", ("normalize",))

    def decoded(*options, paths=tuple(item.impath for item in items), root=root):
        reads.clear()
        tests = [Datum(path) for path in paths]
        list(loader(tests, "DATASET.ROOT", root, *options, is_train=False, folder=folder))
        return len(reads)

    assert [decoded(*options), decoded(*options)] == [8, 0]
    assert decoded(*options, "INPUT.PIXEL_MEAN", [0.1, 0.2, 0.3]) == decoded("DATALOADER.TEST.BATCH_SIZE", 2) == 0
    moved = shutil.move(root, tmp_path / "moved")
    paths = [item.impath.replace(root, str(moved)) for item in items]
    assert decoded(paths=paths, root=str(moved)) == 0
    shutil.move(moved, root)
    paths = [item.impath for item in items]
    assert decoded("INPUT.SIZE", (8, 6)) == 8
    assert decoded("INPUT.INTERPOLATION", "bilinear") == 8
    assert decoded(paths=paths[:5]) == 5
    assert decoded(paths=[*paths[::-1], paths[0]]) == 8  # one that is listed twice is there once
    os.utime(items[0].impath, ns=(1, 1))
    assert decoded() == 8
    shutil.copy2(items[3].impath, items[4].impath)
    assert decoded() == 8
    spoil(items[:1])  # of the same size and time
    with pytest.raises(InputError, match=r"colour\.jpg"):
        decoded()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("PIL.__version__", "0"),
        ("torchvision.__version__", "0"),
        ("PIL.features.version", lambda _: "0"),
        ("inspect.getsource", lambda _: "def read_image(path): ..."),
    ],
)
def test_other_versions_make_their_own(items, tmp_path, monkeypatch, name, other):
    for count in (1, 2):
        list(loader(items, is_train=False, folder=tmp_path))
        assert len(list(tmp_path.glob("*.npy"))) == count
        monkeypatch.setattr(name, other)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("harm", ["a bit", "zeros"])
def test_damaged_pictures_in_a_file_are_decoded_again(items, tmp_path, capfd, harm, workers):
    options = ("DATALOADER.NUM_WORKERS", workers)
    expected = epoch(loader(items, *options, is_train=False, folder=tmp_path))
    file = file_in(tmp_path)
    damaged = bytearray(file.read_bytes())
    begin = len(damaged) - 8 * (4 + 8 * 8 * 3)  # of the pictures
    damaged[begin + 500 : begin + 700] = (
        bytes(200) if harm == "zeros" else [damaged[begin + 500] ^ 4, *damaged[begin + 501 : begin + 700]]
    )
    file.write_bytes(damaged)
    capfd.readouterr()
    assert same(epoch(loader(items, *options, is_train=False, folder=tmp_path)), expected)
    assert capfd.readouterr().out.count(f"{file} is damaged, at {items[2].impath} first") == 1


@pytest.mark.parametrize("harm", ["half", "empty", "another shape", "floats", "another order", "no head"])
def test_a_damaged_file_is_made_anew(items, tmp_path, harm):
    expected = epoch(loader(items, is_train=False, folder=tmp_path))
    file = file_in(tmp_path)
    whole = file.read_bytes()
    if harm in ("half", "empty"):
        file.write_bytes(whole[: 500 if harm == "half" else 0])
    elif harm in ("another order", "no head"):  # with which NumPy reads other pixels, or nothing
        changes = {"another order": (b"False, ", b"True,  "), "no head": (b"{'descr'", b"((((((((")}
        file.write_bytes(whole.replace(*changes[harm], 1))
    else:
        np.save(file, np.zeros((7, 8, 8, 3), np.uint8) if harm == "another shape" else np.zeros((8, 8, 8, 3)))
    assert same(epoch(loader(items, is_train=False, folder=tmp_path)), expected) and file.read_bytes() == whole


def store(items, folder):
    return loader(items, is_train=False, folder=folder).dataset.store


def test_runs_that_start_together_make_it_once(items, tmp_path, monkeypatch):
    log, start, read = tmp_path / "log", fork.Event(), cache.read_image

    def logged(path):
        with open(log, "a") as file:
            file.write(".")
        time.sleep(0.02)
        return read(path)

    monkeypatch.setattr(cache, "read_image", logged)
    monkeypatch.setattr(cache.inspect, "getsource", lambda _: "reader")

    def run():
        start.wait(60)
        own = store(items, tmp_path / "cache")
        own.open()
        os._exit(0 if own.pixels is not None and own.pixels[7].any() else 1)

    runs = [fork.Process(target=run) for _ in range(3)]
    for process in runs:
        process.start()
    start.set()
    for process in runs:
        process.join(60)
    assert [process.exitcode for process in runs] == [0, 0, 0] and log.read_text() == 8 * "."


def test_a_killed_run_leaves_nothing_that_is_read(items, tmp_path, monkeypatch):
    expected = epoch(loader(items, is_train=False))
    pid = os.getpid()
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: sync(file) if os.getpid() == pid else os.kill(os.getpid(), signal.SIGKILL)
    )
    process = fork.Process(target=lambda: store(items, tmp_path / "cache").open())
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert list((tmp_path / "cache").glob(".*.npy.*")) and not list((tmp_path / "cache").glob("*.npy"))
    assert same(epoch(loader(items, is_train=False, folder=tmp_path / "cache")), expected)
    assert file_in(tmp_path / "cache") and not list((tmp_path / "cache").glob(".*"))


@pytest.mark.parametrize("trouble", ["No space left", "Read-only file system"])
def test_a_run_goes_on_without_a_file(items, tmp_path, monkeypatch, capsys, trouble):
    expected, folder = epoch(loader(items, is_train=False)), tmp_path / "cache"

    def refuse(_):
        raise OSError(28, trouble)

    if trouble == "No space left":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(cache, "FileLock", refuse)
    cached = loader(items, is_train=False, folder=folder)
    assert same(epoch(cached), expected) and same(epoch(cached), expected)
    said = [line for line in capsys.readouterr().out.splitlines() if "goes on without" in line]
    assert len(said) == 1 and trouble in said[0]
    assert not list(tmp_path.glob("cache/*.npy")) and not list(tmp_path.glob("cache/.*"))


def test_what_can_be_no_cache_is_refused_at_once(items, tmp_path, monkeypatch):
    """Not after the training; a folder that may only be read does if it has files of the set."""
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(
            InputError, match=rf"^DATALOADER\.TEST\.CACHE_DIR {folder} cannot be a folder, because .*file is a file"
        ):
            loader(items, is_train=False, folder=folder)
    expected = epoch(loader(items, is_train=False, folder=tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(InputError, match=f"nothing may be written to {tmp_path}: choose another one"):
        loader(items, is_train=False, folder=tmp_path / "new")
    assert same(epoch(loader(items, is_train=False, folder=tmp_path / "cache")), expected)


def test_pictures_of_no_one_size_are_not_cached(items, tmp_path, capsys):
    no_list = T.Lambda(T.Compose([T.Resize((8, 8)), T.ToTensor()]))
    for options, tfm in ((("DATALOADER.RETURN_IMG0", True), "own"), ((), no_list)):
        expected = epoch(loader(items, *options, tfm=tfm, is_train=False))
        cached = loader(items, *options, tfm=tfm, is_train=False, folder=tmp_path / "cache")
        assert "DATALOADER.TEST.CACHE_DIR is not used" in capsys.readouterr().out
        assert cached.dataset.store is None and same(epoch(cached), expected)


def test_only_the_test_loader_is_cached(data_root, tmp_path):
    folder = tmp_path / "cache"
    options = ("DATASET.NAME", "Caltech101", "DATASET.ROOT", str(data_root), "DATALOADER.TEST.CACHE_DIR", str(folder))
    manager = DataManager(config(*options, "DATASET.NUM_SHOTS", 2))
    for part in (manager.train_loader_x, manager.val_loader, manager.test_loader):
        list(part)
    assert file_in(folder).name.startswith("Caltech101-") and np.load(file_in(folder)).shape == (20, 8, 8, 3)
    assert manager.val_loader.dataset.store is None and isinstance(manager.train_loader_x.dataset.store, cache.Kept)
    plain = DataManager(config(*options[:4]))
    assert plain.test_loader.dataset.store is None and same(epoch(plain.test_loader), epoch(manager.test_loader))
