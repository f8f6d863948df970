"""What a run is (../../one_run/identity.py): another one is never taken for it, whatever has changed."""

import hashlib
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import clip
import train
from dassl.data.datasets import Datum
from dassl.utils import InputError
from one_run import identity
from one_run.differences import differences
from one_run.identity import identity_before, seen, sha256_of_images
from one_run.predictor import Predictor
from sweep import __main__ as sweep
from sweep.protocols import Method, Setting, plan
from tests.helpers import arguments, results
from tests.own_pictures import folders, line, picture, write_csv
from tests.test_train import broken_off, one_sentence

SHORT = {"OPTIM__MAX_EPOCH": 3, "DATASET__NUM_SHOTS": 2, "DATALOADER__TRAIN_X__BATCH_SIZE": 4}
NAMES = [("n01", "blue thing")]


@pytest.fixture
def pictures(tmp_path):
    root = folders(tmp_path / "pictures")
    write_csv(root / "names.csv", ("folder", "name"), *NAMES)
    write_csv(root / "all.csv", ("path", "class"), *listed(root))
    return root


def listed(root, **changed):
    names = sorted(path.relative_to(root) for path in root.rglob("*.*") if path.suffix in (".JPG", ".png"))
    return [(str(name), changed.get(name.stem, name.parent.name)) for name in names]


def drawn(root, part, **options):
    """The images of a part of the run's data set."""
    from tests.datasets.test_folder import read

    return [item.impath for item in getattr(read(root, **options), part)]


def add_a_picture(root):
    picture(root / "n01" / "new.png")


def remove_a_class(root):
    shutil.rmtree(root / "n01")
    (root / "names.csv").write_text("folder,name\ngrass_green,grass\n")


def add_a_class(root):
    picture(root / "z" / "0.png")
    for number in range(1, 10):
        shutil.copy(root / "z" / "0.png", root / "z" / f"{number}.png")


def correct_a_name(root):
    write_csv(root / "names.csv", ("folder", "name"), ("n01", "blue ball"))


def change_a_test_picture(root):
    first = drawn(root, "test")[0]
    shutil.copyfile(drawn(root, "test")[-1], first)


CHANGES = [
    (correct_a_name, "the class 'blue thing' there is called 'blue ball' here"),
    (add_a_class, "there are 4 classes there and 5 here ('z' only here)"),
    (remove_a_class, "there are 4 classes there and 3 here ('grass' only here, "),
    (change_a_test_picture, "test images are others, or have changed"),
    (add_a_picture, "images"),
]  # fmt: skip


def words(method):
    options = {"DATASET__FOLDER__NAMES": "names.csv"} | (SHORT if method == "CoOp" else {})
    return options


@pytest.mark.parametrize("method", ["CoOp", "ZeroshotCLIP"])
def test_a_finished_run_is_skipped_only_if_its_data_is_the_same(pictures, tmp_path, capsys, method):
    run = line(pictures, tmp_path / "out", method, **words(method))
    assert train.main(run) == 0
    record = results(tmp_path / "out")
    for change, says in CHANGES:
        kept = shutil.copytree(pictures, tmp_path / "kept")
        change(pictures)
        capsys.readouterr()
        assert train.main(run) == 2
        error = one_sentence(capsys)
        assert "holds a finished run that is not this one" in error
        assert says in error
        assert results(tmp_path / "out") == record
        shutil.rmtree(pictures)
        shutil.move(kept, pictures)
    assert train.main(run) == 0
    assert "Skipped" in capsys.readouterr().out


def test_a_list_that_changed(pictures, tmp_path, capsys):
    run = line(pictures, tmp_path / "out", "ZeroshotCLIP", DATASET__FOLDER__CSV="all.csv")
    assert train.main(run) == 0
    write_csv(pictures / "all.csv", ("path", "class"), *listed(pictures)[:-1])
    capsys.readouterr()
    assert train.main(run) == 2
    assert "images there and" in one_sentence(capsys)


def test_sweeps_compare_too(pictures, tmp_path, capsys):
    setting = Setting(pictures, tmp_path / "out", ("DATASET.FOLDER.NAMES", "names.csv"))
    (run,) = plan("fewshot", [Method("ZeroshotCLIP", "embedded")], ["folder"], [16], [1], setting)
    assert train.main(list(run.command[1:])) == 0
    ask = ["--methods", "ZeroshotCLIP:embedded", "--datasets", "folder", "--protocol", "fewshot", "--seeds", "1"]
    ask += ["--dry-run", "--root", str(pictures), "--output", str(tmp_path / "out"), "--set", *setting.options]
    capsys.readouterr()
    assert sweep.main(ask) == 0
    assert "1 finished before, 0 to do" in capsys.readouterr().out
    correct_a_name(pictures)
    assert sweep.main(ask) == 2
    assert "the class 'blue thing' there is called 'blue ball' here" in one_sentence(capsys)
    shutil.rmtree(pictures)  # on a machine without the pictures the plan goes by the configs
    ask[ask.index(str(pictures))] = str(tmp_path / "elsewhere")
    assert sweep.main(ask) == 2  # own pictures of another root, which cannot be compared, are another data set
    assert "DATASET.ROOT" in one_sentence(capsys)


def test_it_goes_on_with_what_it_learned_from_alone(pictures, tmp_path, monkeypatch, capsys):
    run = line(pictures, tmp_path / "out", **words("CoOp"))
    broken_off(run, monkeypatch)
    learned_from = drawn(pictures, "train_x", **words("CoOp"))
    for change, says in [
        (correct_a_name, "the class 'blue thing' there is called 'blue ball' here"),
        (lambda _: shutil.copyfile(learned_from[-1], learned_from[0]), "some of the 8 train images are others"),
    ]:
        kept = shutil.copytree(pictures, tmp_path / "kept")
        change(pictures)
        for _ in range(2):  # the refusal itself changes nothing
            capsys.readouterr()
            assert train.main(run) == 2
            assert says in one_sentence(capsys)
        shutil.rmtree(pictures)
        shutil.move(kept, pictures)
    change_a_test_picture(pictures)
    assert train.main(run) == 0
    assert "it goes on from its last checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("with_record", [True, False])
def test_halves_are_those_of_the_training(pictures, tmp_path, capsys, with_record):
    half = {"DATASET__SUBSAMPLE_CLASSES": "base"} | SHORT
    assert train.main(line(pictures, tmp_path / "base", **half)) == 0
    if not with_record:  # the checkpoint knows it too
        (tmp_path / "base" / "results.json").unlink()
    test = ["--eval-only", "--model-dir", str(tmp_path / "base")]
    new = half | {"DATASET__SUBSAMPLE_CLASSES": "new"}
    add_a_class(pictures)
    capsys.readouterr()
    assert train.main(test + line(pictures, tmp_path / "new", **new)) == 2
    assert "there are 4 classes there and 5 here ('z' only here). Restore" in one_sentence(capsys)
    correct_a_name(pictures)
    renamed = half | {"DATASET__FOLDER__NAMES": "names.csv", "DATASET__SUBSAMPLE_CLASSES": "base"}
    assert train.main(test + line(pictures, tmp_path / "renamed", **renamed)) == 2
    assert one_sentence(capsys).count("there are 4 classes there and 5 here") == 1
    shutil.rmtree(pictures / "z")
    assert train.main(test + line(pictures, tmp_path / "new", **new)) == 0


def test_contexts_of_classes_fit_no_others(data_root, tmp_path, capsys):
    """Two base classes and two new ones: of one shape."""
    root = shutil.copytree(data_root, tmp_path / "data")
    options = ["TRAINER.COOP.CSC", True, "OPTIM.MAX_EPOCH", 1]
    base, listed = tmp_path / "base", root / "caltech-101" / "split_zhou_Caltech101.json"
    assert train.main(arguments(root, base, options=options)) == 0
    capsys.readouterr()
    flags = {"model_dir": base, "eval_only": True}
    assert train.main(arguments(root, tmp_path / "all", subsample="all", options=options, **flags)) == 2
    assert (
        "a context for each of its 3 classes, and 'dark grey' is none of them: test it on its own classes"
        in one_sentence(capsys)
    )
    listed.write_text(listed.read_text().replace('"red"', '"scarlet"'))
    (base / "results.json").unlink()
    learned = [*options, "MODEL.INIT_WEIGHTS", base / "prompt_learner/model.pth.tar-1"]
    assert train.main(arguments(root, tmp_path / "further", options=learned)) == 2
    assert "for each of its 3 classes, and 'scarlet' is none of them" in one_sentence(capsys)


def test_some_of_the_classes_take_their_own_contexts(data_root, tmp_path, capsys):
    """As ImageNet-A has some of ImageNet's classes; here in another order, too."""
    options, run = ["TRAINER.COOP.CSC", True, "OPTIM.MAX_EPOCH", 2], tmp_path / "all"
    assert train.main(arguments(data_root, run, subsample="all", options=options)) == 0
    learned = torch.load(run / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]["ctx"]  # (C, m, D)
    names = results(run)["identity"]["classes"]
    predictor = Predictor(run, [names[3], names[1]])
    assert torch.equal(predictor.trainer.model.prompt_learner.ctx, learned[[3, 1]])
    flags = {"model_dir": run, "eval_only": True}
    assert train.main(arguments(data_root, tmp_path / "new", subsample="new", options=options, **flags)) == 0
    capsys.readouterr()
    first = [*options, "MODEL.INIT_WEIGHTS", run / "prompt_learner/model.pth.tar-2"]
    assert train.main(arguments(data_root, tmp_path / "further", options=first)) == 2
    assert "a context for each class of another list" in one_sentence(capsys)
    with pytest.raises(clip.InputError, match="'teal' is none of them"):
        Predictor(run, [names[0], "teal"])


def test_of_classes_of_one_name_the_first_is_taken_first(data_root, tmp_path):
    """As CLIP's list has two of ImageNet's called missile."""
    run = tmp_path / "all"
    assert train.main(arguments(data_root, run, subsample="all", options=["OPTIM.MAX_EPOCH", 1])) == 0
    trainer = Predictor(run).trainer
    trainer.dm.dataset.classnames = ["x", "y", "x"]
    rows = partial(trainer.rows_of_classes, SimpleNamespace(of_classes="a context"), path="theirs")
    assert rows({"identity": {"classes": ["x", "z", "x", "y"]}}) == [0, 3, 2]
    with pytest.raises(clip.InputError, match="'x' is none of them"):
        rows({"identity": {"classes": ["x", "z", "y"]}})


def test_contexts_of_classes_that_a_checkpoint_does_not_name(data_root, tmp_path, capsys):
    """As in the authors' checkpoints."""
    options, base = ["TRAINER.COOP.CSC", True, "OPTIM.MAX_EPOCH", 1], tmp_path / "base"
    assert train.main(arguments(data_root, base, options=options)) == 0
    path = base / "prompt_learner/model.pth.tar-1"
    torch.save({"state_dict": torch.load(path, weights_only=True)["state_dict"], "epoch": 1}, path)
    (base / "results.json").unlink()
    flags = {"model_dir": base, "eval_only": True}
    assert train.main(arguments(data_root, tmp_path / "test", options=options, **flags)) == 0
    assert "does not say which classes it has a context for" in capsys.readouterr().out


def test_a_model_is_tested_on_the_backbone_it_was_trained_on(data_root, tmp_path, capsys):
    weights = tmp_path / "clip.pt"
    state = clip.load_state_dict(clip.clip._download(clip.clip._MODELS["ViT-Embedded/8"]))
    torch.save(state, weights)
    options = ["OPTIM.MAX_EPOCH", 1]
    assert train.main(arguments(data_root, tmp_path / "base", backbone=weights, options=options)) == 0
    state["logit_scale"] = state["logit_scale"] + 0.5
    torch.save(state, weights)
    capsys.readouterr()
    assert train.main(arguments(data_root, tmp_path / "base", backbone=weights, options=options)) == 2
    assert "the file of MODEL.BACKBONE.NAME has changed" in one_sentence(capsys)
    line = arguments(
        data_root, tmp_path / "test", backbone=weights, model_dir=tmp_path / "base", eval_only=True, options=options
    )
    assert train.main(line) == 2
    assert "the file of MODEL.BACKBONE.NAME has changed" in one_sentence(capsys)


def test_a_run_without_a_seed_draws_anew(pictures, tmp_path):
    """So that only what is not drawn is compared."""
    run = line(pictures, tmp_path / "out", **SHORT)
    run[run.index("--seed") + 1] = "-1"
    assert train.main(run) == 0
    cfg = train.build_config(train.parse_arguments(run))
    record = results(tmp_path / "out")
    now = record | {"identity": identity_before(cfg)}
    assert now["identity"]["images"]["train"]["count"] == 8
    assert not differences(now, record)
    test = ["--eval-only", "--model-dir", str(tmp_path / "out"), *line(pictures, tmp_path / "test", **SHORT)]
    test[test.index("--seed") + 1] = "-1"
    assert train.main(test) == 0  # on its own classes, beside other shots
    add_a_picture(pictures)
    assert differences(record | {"identity": identity_before(cfg)}, record)


def test_what_a_training_began_with_is_not_what_it_learned(data_root, tmp_path):
    """A model is tested as it ended, whatever has become of its INIT_WEIGHTS."""
    options = ["OPTIM.MAX_EPOCH", 1]
    assert train.main(arguments(data_root, tmp_path / "first", options=options)) == 0
    begin = shutil.copy(tmp_path / "first/prompt_learner/model.pth.tar-1", tmp_path / "begin.pt")
    options += ["MODEL.INIT_WEIGHTS", begin]
    assert train.main(arguments(data_root, tmp_path / "second", options=options)) == 0
    state = torch.load(begin, weights_only=True)
    state["state_dict"]["ctx"] += 1
    torch.save(state, begin)
    flags = {"model_dir": tmp_path / "second", "eval_only": True}
    assert train.main(arguments(data_root, tmp_path / "test", options=options, **flags)) == 0
    assert results(tmp_path / "test")["accuracy"] == results(tmp_path / "second")["accuracy"]


def test_names_that_are_no_utf8(tmp_path):
    """The bytes that they have on the disk count."""
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    picture(path)
    items = [Datum(str(path), label=0)]
    expected = hashlib.sha256(b"caf\xe9.png\t0").hexdigest()
    assert sha256_of_images(items, str(tmp_path)) == expected and seen(items, str(tmp_path))["count"] == 1


def images(folder, count) -> list[Datum]:
    for number in range(count):
        (folder / f"{number}.png").write_bytes(bytes([number]) * (number + 1))
    return [Datum(str(folder / f"{number}.png"), label=number % 2) for number in range(count)]


def test_of_a_part_with_more_images_than_can_be_opened_all_sizes_and_some_bytes_count(tmp_path, monkeypatch):
    """As the whole of ImageNet; of a part of the usual size every image is opened."""
    items, of_all = images(tmp_path, 6), hashlib.sha256()
    for number, item in enumerate(items):
        content = Path(item.impath).read_bytes()
        head = hashlib.sha256(content).hexdigest()
        of_all.update(f"{number}.png\t{item.label}\t{len(content)}\t{head}\n".encode())
    assert seen(items, str(tmp_path)) == {"count": 6, "sha256": of_all.hexdigest()}
    monkeypatch.setattr(identity, "OPENED", 4)  # so that every second one is opened
    before = seen(items, str(tmp_path))
    assert before["sha256"] != of_all.hexdigest()
    (tmp_path / "2.png").write_bytes(b"abc")  # opened
    assert (after := seen(items, str(tmp_path))) != before
    (tmp_path / "3.png").write_bytes(b"abcd")  # of the same size
    assert seen(items, str(tmp_path)) == after
    (tmp_path / "3.png").write_bytes(b"abcde")
    assert seen(items, str(tmp_path)) != after


def test_images_that_two_parts_share_are_read_once(tmp_path, monkeypatch):
    """As ImageNet's for validation and test."""
    items, opened = images(tmp_path, 4), []
    look = identity.looked_at
    monkeypatch.setattr(identity, "looked_at", lambda path, *more: opened.append(path) or look(path, *more))
    parts = {"train": items[:3], "val": items[3:], "test": [Datum(items[3].impath, items[3].label)], "unlabelled": []}
    found = identity.images_in(parts, str(tmp_path))
    assert len(opened) == 4 and found["val"] == found["test"] == seen(items[3:], str(tmp_path))
    assert [*found] == ["train", "val", "test"]
    parts["test"] = [Datum(items[3].impath, 1 - items[3].label)]
    assert identity.images_in(parts, str(tmp_path))["test"] != found["val"]


def test_an_image_that_was_removed_is_named(tmp_path):
    items = images(tmp_path, 2)
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png cannot be read \(No such file or directory\): restore it"):
        seen(items, str(tmp_path))


def test_the_place_of_the_pictures_is_no_difference(pictures, tmp_path, capsys):
    """Neither beside a key that differs, nor to a run that is resumed."""
    moved = shutil.copytree(pictures, tmp_path / "moved")
    assert train.main(line(pictures, tmp_path / "out", **SHORT)) == 0
    capsys.readouterr()
    assert train.main(line(moved, tmp_path / "out", **SHORT | {"OPTIM__LR": 0.1})) == 2
    assert "DATASET.ROOT" not in one_sentence(capsys)
    resumed = ["--resume", str(tmp_path / "out"), *line(moved, tmp_path / "on", **SHORT)]
    assert train.main(resumed) == 0
    assert results(tmp_path / "on")["resumed"]["changed"] == [] and "another config" not in capsys.readouterr().out


def test_classes_with_fewer_images_than_shots_are_counted(pictures, tmp_path, capsys):
    drawn(pictures, "train_x", DATASET__NUM_SHOTS=5)
    assert "of 4 classes have fewer than 5 training images, and give all they have" in capsys.readouterr().out


def test_a_key_that_came_later_is_what_runs_did_before_it():
    before = {"method": "CoOp", "dataset": "Caltech101", "seed": 1, "shots": 4, "config": {"TRAIN": {"PRINT_FREQ": 5}}}
    plain, other = (before | {"config": {"TRAIN": {"COMPILE": way}}} for way in ("", "compile"))
    assert not differences(plain, before)
    assert differences(other, before) == ["TRAIN.COMPILE is '' there and 'compile' here"]
