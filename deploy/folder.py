"""The folder of an export: the files, what they say beside the run, and how to use them. It appears whole, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.errors import InputError
from dassl.utils import read_image, write_json
from one_run.calibration import temperature_of
from one_run.classes import HALVES
from one_run.config import options_of
from one_run.folder import FILE
from one_run.rebuild import config_of_record, precision_keys, rebuild_to_predict, record_of_training
from one_run.record import versions

from .classifier import Classifier, check_exportable, graph_of
from .comparing import AT_MOST, compare, in_words, some, speeds
from .formats import FORMATS, INT8, ONNX, check_libraries

BATCH = 8  # pictures at a time
LABELS, PREPROCESS, RECORD, COMPARISON, SCRIPT = (
    "labels.json",
    "preprocess.json",
    "run.json",
    "comparison.json",
    "use_me.py",
)


def check_new(out: Path) -> None:
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out} is there already: choose another folder, or remove it.")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which is called `out` once all is in it."""
    check_new(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise InputError(f"--out {out} cannot be made ({error.strerror}): choose another folder.") from error
    try:
        yield folder
        folder.chmod(0o755)
        try:
            os.replace(folder, out)  # an empty one may be there
        except OSError as error:  # such as of `.`
            raise InputError(f"--out {out} cannot be made ({error.strerror}): choose another folder.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def export(
    run: Path,
    out: Path,
    files: Sequence[str] = (ONNX,),
    classes: Sequence[str] | str = "",
    calibrated: bool = False,
    epoch: int | None = None,
    root: str = "",
    pictures: int | None = 200,
) -> bool:
    """Write `files`, names of `FORMATS`, of a finished training run into the folder `out`; whether those in fp32 are the run.

    classes, calibrated, epoch and root as for `one_run.predictor.Predictor`. pictures: how many of the run's test pictures it
    is compared on, spread evenly over all (0: all of them, None: it is not compared).
    """
    check_new(out)  # before anything is computed
    if any(name.endswith(".onnx") for name in files):
        check_libraries()
    files = [name for name in FORMATS if name in files or (name == ONNX and INT8 in files)]
    record = record_of_training(run)
    fp32 = {"USE_CUDA": False, **dict.fromkeys(precision_keys(record), "fp32")}
    temperature = temperature_of(run, epoch, root, use_cuda=False) if calibrated else 1.0
    trainer = rebuild_to_predict(run, classes, use_cuda=False, epoch=epoch, options=options_of(fp32))
    check_exportable(trainer)
    names, facts = trainer.dm.dataset.classnames, preprocess(trainer.cfg)
    items = [] if pictures is None else some(test_items(record, classes, names, root), pictures)
    classifier = Classifier(trainer, temperature).eval()
    with new_folder(out) as folder:
        graph = graph_of(classifier, trainer.model.clip.visual.input_resolution)
        for name in files:
            FORMATS[name].write(graph, folder)
        write_json(list(names), str(folder / LABELS))
        write_json(facts, str(folder / PREPROCESS))
        shutil.copy(run / FILE, folder / RECORD)
        if ONNX in files:
            shutil.copy(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
        transform, labelled = build_transform(trainer.cfg, is_train=False), isinstance(classes, str)
        found = compared(classifier, folder, files, items, transform, labelled)
        whole = found | {"pictures": len(items), "temperature": temperature, "versions": versions()}
        write_json(whole, str(folder / COMPARISON))
    for line in in_words(found, len(items)) if items else ["It was not compared with the run."]:
        print(line)
    return all(found[name]["largest_difference"] <= AT_MOST for name in files if name != INT8) if items else True


def preprocess(cfg: CfgNode) -> dict:
    """What is done to a picture before, for who does it elsewhere; other transforms than CLIP's own are refused."""
    own = cfg.INPUT
    if own.NO_TRANSFORM or "normalize" not in own.TRANSFORMS or "instance_norm" in own.TRANSFORMS:
        raise InputError(
            "Its pictures are not prepared as CLIP's are (INPUT.TRANSFORMS without normalize, or with instance_norm), and cannot be "
            "elsewhere: train with normalize."
        )
    return {
        "short_side": max(own.SIZE),
        "interpolation": own.INTERPOLATION,
        "crop": list(own.SIZE),  # height and width, of the centre
        "mean": list(own.PIXEL_MEAN),
        "std": list(own.PIXEL_STD),
    }


def test_items(record: dict, classes: Sequence[str] | str, names: Sequence[str], root: str) -> list:
    """The test pictures of the run's data set; those of classes that the run does not know stand for differences alone."""
    changes = {"DATASET.ROOT": root} if root else {}
    if isinstance(classes, str) and classes in HALVES:
        changes["DATASET.SUBSAMPLE_CLASSES"] = classes
    cfg = config_of_record(record, changes)
    dataset = build_dataset(cfg)
    if isinstance(classes, str) and list(dataset.classnames) != list(names):
        raise InputError(
            f"The data set {cfg.DATASET.NAME} has other classes now than the run knows: restore it, or pass --no-comparison."
        )
    if not dataset.test:
        raise InputError(f"The data set {cfg.DATASET.NAME} has no test pictures to compare on: pass --no-comparison.")
    return list(dataset.test)


def batches_of(items: list, transform) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(items), BATCH):
        some_items = items[start : start + BATCH]
        images = torch.stack([transform(read_image(item.impath)) for item in some_items])  # (B, 3, H, W)
        yield images, torch.tensor([item.label for item in some_items])


def compared(classifier, folder: Path, files: Sequence[str], items: list, transform, labelled: bool) -> dict:
    """What the files in the folder, read again, say of the items beside the run, and how fast."""
    if not items:
        return {}
    functions = {name: FORMATS[name].read(folder / name) for name in files}
    found = compare(classifier, functions, batches_of(items, transform), labelled)
    images = next(batches_of(items, transform))[0].numpy()
    for name, speed in speeds(functions, images).items():
        found[name] |= {"images_per_second": speed, "megabytes": (folder / name).stat().st_size / 1e6}
    return found
