"""Features of frozen images, encoded once for all runs (../../../trainers/shared/features.py, ../../../dassl/data/features.py)."""

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose

import clip
import train
from dassl.data.features import FeatureStore, facts_of_images
from dassl.engine import SimpleTrainer
from tests.helpers import arguments, results
from tests.trainers.stored_runs import are_equal, built, run
from trainers.coop import CoOp
from trainers.shared import texts
from trainers.shared.prompted_clip import PromptedCLIP

PLAIN = (
    "ZeroshotCLIP",
    "TaskRes",
    "CoOp",
    "CoCoOp",
    "KgCoOp",
    "ProGrad",
    "TCP",
    "ATPrompt",
    "TextRefiner",
    "Spotlighter",
    "DePT",
)
CHANGED = ("VPT", "IVLP", "MaPLe", "MMA", "CLIPFit", "CLIPLoRA")


@pytest.mark.parametrize("method", PLAIN)
def test_same_bits_with_and_without(seen, data_root, tmp_path, method):
    """Of logits and of all that is learned, whether a run finds features or leaves them there."""
    folder = tmp_path / "features"
    without, first, second = (
        run(seen, data_root, tmp_path / name, method, where)
        for name, where in [("a", ""), ("b", folder), ("c", folder)]
    )
    assert are_equal(without[1:], first[1:]) and are_equal(without[1:], second[1:])
    assert second[0] < first[0] <= without[0]
    if method != "TextRefiner":  # whose training ranks patches
        assert second[0] == 0
    assert results(tmp_path / "a")["test_images_per_second"] > 0
    assert results(tmp_path / "c")["test_images_per_second"] is None


@pytest.mark.parametrize(("method", "options"), [
    *((method, ()) for method in CHANGED),
    ("Spotlighter", ("TRAINER.SPOTLIGHTER.KEEP", 0.5)),
    ("Spotlighter", ("TRAINER.SPOTLIGHTER.ZOOM", 1)),
    ("Spotlighter", ("FEATURES.TOKENS_MB", 0)),
])  # fmt: skip
def test_what_changes_the_image_encoder_leaves_nothing_there(data_root, tmp_path, method, options):
    """Nor does what there is no room for."""
    options = ["OPTIM.MAX_EPOCH", 1, "FEATURES.DIR", tmp_path / "features", *options]
    assert train.main(arguments(data_root, tmp_path / "out", method, options=options)) == 0
    kind = "tokens" if "FEATURES.TOKENS_MB" in options else "*"
    assert not [*tmp_path.glob(f"features/*-{kind}-*.safetensors")]
    assert results(tmp_path / "out")["test_images_per_second"] > 0


def test_methods_share_what_is_there(seen, data_root, tmp_path):
    folder = tmp_path / "features"
    assert run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", folder)[0] == 12
    assert run(seen, data_root, tmp_path / "b", "CoCoOp", folder)[0] == 12  # the training images
    assert run(seen, data_root, tmp_path / "c", "KgCoOp", folder)[0] == 0
    assert run(seen, data_root, tmp_path / "d", "CoOp", folder, seed=2)[0] == 12  # others are drawn


def test_promptsrc_compares_with_the_features_that_others_have_left(seen, data_root, tmp_path):
    """Those of CLIP without prompts, of the training images alone: its own are prompted."""
    folder, without = tmp_path / "features", run(seen, data_root, tmp_path / "a", "PromptSRC", "")
    assert run(seen, data_root, tmp_path / "b", "CoOp", folder)[0] == 2 * 12
    there = sorted(folder.glob("*-features-*"))
    found = run(seen, data_root, tmp_path / "c", "PromptSRC", folder)
    assert (
        found[0] == without[0] - 12
        and are_equal(found[1:], without[1:])
        and sorted(folder.glob("*-features-*")) == there
    )
    crops = ["INPUT.TRANSFORMS", ("random_resized_crop", "normalize"), "TEST.NO_TEST", True]
    assert run(seen, data_root, tmp_path / "d", "PromptSRC", folder, crops)[0] == 2 * 2 * 12


KEYS = [
    ["DATALOADER.TEST.BATCH_SIZE", 5],
    ["TRAINER.ZSCLIP.PREC", "bf16"],
    ["INPUT.INTERPOLATION", "nearest"],
    ["INPUT.PIXEL_MEAN", [0.5, 0.5, 0.5]],
]


@pytest.mark.parametrize("options", KEYS, ids=lambda options: options[0])
def test_other_settings_have_other_features(seen, data_root, tmp_path, options):
    folder = tmp_path / "features"
    run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", folder)
    expected = run(seen, data_root, tmp_path / "b", "ZeroshotCLIP", "", options)
    found = run(seen, data_root, tmp_path / "c", "ZeroshotCLIP", folder, options)
    assert found[0] == 12 and are_equal(found[1:], expected[1:])


def test_other_weights_and_images_have_other_features(seen, data_root, tmp_path):
    root, weights, folder = tmp_path / "data", tmp_path / "clip.pt", tmp_path / "features"
    shutil.copytree(data_root, root)
    state = clip.load_state_dict(clip.find_weights("ViT-Embedded/8"))
    torch.save(state, weights)
    options = ["MODEL.BACKBONE.NAME", weights]

    def encoded(name) -> int:
        return run(seen, root, tmp_path / name, "ZeroshotCLIP", folder, options)[0]

    assert encoded("a") == 12 and encoded("b") == 0
    state["visual.proj"] = 2 * state["visual.proj"]
    torch.save(state, weights)
    assert encoded("c") == 12 and encoded("d") == 0
    state["text_projection"] = 2 * state["text_projection"]
    torch.save(state, weights)
    assert encoded("e") == 0  # which has no part in an image's features
    split = json.loads((root / "caltech-101/split_zhou_Caltech101.json").read_text())
    path = root / "caltech-101/101_ObjectCategories" / split["test"][0][0]
    Image.open(path).rotate(90).save(path)
    assert encoded("f") == 12 and encoded("g") == 0


def test_another_activation_has_other_features(seen, data_root, tmp_path, monkeypatch):
    """Of the same weights; of images as of texts."""
    monkeypatch.setitem(texts.LEAST, "cpu", 1)  # prompts that are kept
    weights, folder = tmp_path / "clip.pt", tmp_path / "features"
    torch.save(clip.load_state_dict(clip.find_weights("ViT-Embedded/8")), weights)
    logits = {}
    for name, activation in (("a", "quick_gelu"), ("b", "gelu"), ("c", "gelu"), ("d", "quick_gelu")):
        options = ["MODEL.BACKBONE.NAME", weights, "MODEL.BACKBONE.ACT", activation]
        images, logits[name], _ = run(seen, data_root, tmp_path / name, "ZeroshotCLIP", folder, options)
        assert (images, seen["texts"]) == ((12, 3) if name in "ab" else (0, 0))
    assert are_equal(logits["a"], logits["d"]) and are_equal(logits["b"], logits["c"])
    assert not are_equal(logits["a"], logits["b"])


DAMAGES = [
    lambda content: content[:-1],
    lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    lambda content: content[:10],
    lambda content: b"",
    lambda content: b"{" + content[1:],
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_computed_again(seen, data_root, tmp_path, capsys, damage):
    folder = tmp_path / "features"
    first = run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", folder)
    [path] = folder.glob("*-features-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    capsys.readouterr()
    assert are_equal(run(seen, data_root, tmp_path / "b", "ZeroshotCLIP", folder)[:2], first[:2])
    assert f"{path} is damaged: what it held is computed again" in capsys.readouterr().out
    assert run(seen, data_root, tmp_path / "c", "ZeroshotCLIP", folder)[0] == 0


def test_a_folder_that_cannot_be_written_to_stops_no_run(seen, data_root, tmp_path, capsys, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dassl.data.features.replace_file", full)
    first = run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", tmp_path / "features")
    assert first[0] == 12 and "not kept for other runs (FEATURES.DIR): [Errno 28]" in capsys.readouterr().out
    assert not [*tmp_path.glob("features/*.safetensors")]
    monkeypatch.undo()
    (tmp_path / "file").touch()
    options = ["FEATURES.DIR", tmp_path / "file/features"]
    assert train.main(arguments(data_root, tmp_path / "b", "ZeroshotCLIP", options=options)) == 2
    assert "FEATURES.DIR" in capsys.readouterr().err


@pytest.mark.parametrize("gone", [False, True])
def test_code_that_has_changed_since_a_run_began_keeps_nothing(seen, data_root, tmp_path, capsys, monkeypatch, gone):
    """What stands in its file is not what runs: the features would pass for those of the new code."""
    folder, code = tmp_path / "features", tmp_path / "vit.py"
    shutil.copy(clip.vit.__file__, code)
    run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", folder)
    there = sorted(folder.iterdir())
    code.write_text(code.read_text() + "\n# another text\n")
    if gone:
        code.unlink()
    monkeypatch.setattr(clip.vit, "__file__", str(code))
    assert run(seen, data_root, tmp_path / "b", "ZeroshotCLIP", folder)[0] == 12
    assert sorted(folder.iterdir()) == there and "not kept for other runs (FEATURES.DIR): " in capsys.readouterr().out


def in_a_process(folder: str, mark: str) -> list[float]:
    def compute():
        with open(mark, "a") as file:
            file.write("x")
        time.sleep(0.3)
        return {"f": torch.arange(1000.0)}

    found = FeatureStore(folder, "set", ".", torch.device("cpu")).of("test", {"of": 1}, compute)
    return found["f"].tolist()


def test_processes_that_ask_at_once_compute_once(tmp_path):
    folder, mark = str(tmp_path / "features"), str(tmp_path / "mark")
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(in_a_process, [folder] * 3, [mark] * 3))
    assert found == [torch.arange(1000.0).tolist()] * 3 and Path(mark).read_text() == "x"


class Blur(torch.nn.Module):
    """Whose text does not say how it blurs."""

    def __init__(self, radius):
        super().__init__()
        self.radius = radius


def test_a_transform_that_cannot_be_told_is_not_kept(data_root):
    assert facts_of_images([], str(data_root), Compose([CenterCrop(4)])) is not None
    assert facts_of_images([], str(data_root), Compose([lambda image: image])) is None
    assert facts_of_images([], str(data_root), Compose([Blur(1), CenterCrop(4)])) is None
    store = FeatureStore(str(data_root / "features"), "set", ".", torch.device("cpu"))
    assert store.of("test", None, lambda: {"f": 1}) == {"f": 1} and not (data_root / "features").exists()


def test_an_image_that_is_gone_is_named(data_root, tmp_path, capsys, monkeypatch):
    """Though its version is asked for before it is read."""
    root, test = tmp_path / "data", SimpleTrainer.test
    shutil.copytree(data_root, root)
    split = json.loads((root / "caltech-101/split_zhou_Caltech101.json").read_text())
    path = root / "caltech-101/101_ObjectCategories" / split["test"][0][0]

    def without_it(self, *more):
        path.unlink()
        return test(self, *more)

    monkeypatch.setattr(SimpleTrainer, "test", without_it)
    options = ["FEATURES.DIR", tmp_path / "features"]
    assert train.main(arguments(root, tmp_path / "out", "ZeroshotCLIP", options=options)) == 2
    assert f"The image {path} does not exist" in capsys.readouterr().err


def test_a_file_of_another_name_or_of_other_facts_is_none(tmp_path, capsys):
    store = FeatureStore(str(tmp_path), "set", ".", torch.device("cpu"))
    store.of("test", {"of": 1}, lambda: {"f": torch.zeros(3)})
    store.of("test", {"of": 2}, lambda: {"f": torch.ones(3)})
    one, two = sorted(tmp_path.glob("*.safetensors"), key=lambda path: b'\\"of\\": 2' in path.read_bytes())
    shutil.copy(one, two)
    assert store.of("test", {"of": 2}, lambda: {"f": torch.ones(3)})["f"].tolist() == [1, 1, 1]
    assert f"{two} is damaged" in capsys.readouterr().out
    one.write_bytes(one.read_bytes().replace(b'"f":', b'"g":'))
    assert store.of("test", {"of": 1}, lambda: {"f": torch.zeros(3)})["f"].tolist() == [0, 0, 0]
    assert f"{one} is damaged" in capsys.readouterr().out


class Adapted(PromptedCLIP):
    def encode(self, images, tokens=False):
        return super().encode(images, tokens)


def test_what_another_changes_in_the_image_path_is_not_plain(data_root, tmp_path):
    """Whether it overrides a part of it, or learns a part of CLIP's own encoder."""
    trainer = built(data_root, tmp_path, "CoOp", ["FEATURES.DIR", tmp_path / "features"])
    assert trainer.model.has_plain_images and trainer.encoded(trainer.test_loader) is not trainer.test_loader
    assert not Adapted(trainer.model.clip, trainer.model.prompt_learner).has_plain_images
    trainer.model.clip.visual.ln_post.requires_grad_(True)
    assert not trainer.model.has_plain_images and trainer.encoded(trainer.test_loader) is trainer.test_loader


def test_the_encoder_is_known_by_its_weights_as_they_are(data_root, tmp_path):
    trainer = built(data_root, tmp_path, "CoOp", ["FEATURES.DIR", tmp_path / "features"])
    before = trainer.image_facts(trainer.model)
    with torch.no_grad():
        trainer.model.clip.visual.ln_post.weight[0] += 1
    assert trainer.image_facts(trainer.model) != before


class OwnLoss(CoOp):
    def compute_loss(self, images, labels):
        logits = self.model(images)
        return logits.logsumexp(dim=1).mean(), {}


class OwnStep(CoOp):
    def forward_backward(self, batch):
        return super().forward_backward(batch)


@pytest.mark.parametrize("kind", [OwnLoss, OwnStep])
def test_a_step_of_another_gets_its_images(data_root, tmp_path, kind):
    cfg = train.build_config(train.parse_arguments(arguments(data_root, tmp_path / "own", "CoOp")))
    trainer = kind(cfg)
    trainer.before_train()
    assert trainer.looks_at_images() and next(iter(trainer.train_loader_x))["img"].shape == (4, 3, 64, 64)
    ours = CoOp(cfg)
    assert not ours.looks_at_images()


# --- views of training images -------------------------------------------------------------------------------------

BY_CHANCE = ["INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize")]


@pytest.mark.parametrize("method", ["CoOp", "CoCoOp", "TextRefiner", "Spotlighter"])
def test_views_are_encoded_once(seen, data_root, tmp_path, method):
    """Three of each of the 12 images, however many epochs there are; and no image is read after that."""
    options = [*BY_CHANCE, "DATALOADER.VIEWS", 3, "TEST.NO_TEST", True]
    short, _, one = run(seen, data_root, tmp_path / "a", method, "", options)
    long, _, another = run(seen, data_root, tmp_path / "b", method, "", [*options, "OPTIM.MAX_EPOCH", 5])
    shots = 12 if method == "Spotlighter" else 0
    assert short == long == 3 * 12 + shots and not are_equal(one, another)
    again = run(seen, data_root, tmp_path / "c", method, "", options)
    assert are_equal(again[2], one)
    settings = results(tmp_path / "a")["config"]["DATALOADER"]
    assert settings["VIEWS"] == 3


def test_views_differ_and_follow_from_the_seed(data_root, tmp_path):
    options = [*BY_CHANCE, "DATALOADER.VIEWS", 4, "FEATURES.DIR", tmp_path / "features"]
    trainer = built(data_root, tmp_path, "CoOp", options)
    views = torch.stack([trainer.of_all(trainer.model.image_features, view) for view in range(4)])
    assert views.shape[:2] == (4, 12) and len(views.flatten(1).unique(dim=0)) == 4
    assert torch.equal(trainer.of_all(trainer.model.image_features, 2), views[2])
    other = built(data_root, tmp_path, "CoOp", [*options, "SEED", 2])
    assert not torch.equal(other.of_all(other.model.image_features, 2), views[2])
    assert not (tmp_path / "features").exists()  # they are of a seed, and a few


def test_a_run_with_views_goes_on_with_the_same_bits(seen, data_root, tmp_path):
    options = [
        *BY_CHANCE,
        "DATALOADER.VIEWS",
        3,
        "TEST.NO_TEST",
        True,
        "TRAIN.CHECKPOINT_FREQ",
        2,
        "OPTIM.MAX_EPOCH",
        4,
    ]
    whole = run(seen, data_root, tmp_path / "whole", "CoOp", "", options)[2]
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "whole", half)
    (half / "results.json").unlink()
    (half / "prompt_learner/model.pth.tar-4").unlink()
    (half / "prompt_learner/checkpoint").write_text("model.pth.tar-2\n")
    assert are_equal(run(seen, data_root, half, "CoOp", "", options)[2], whole)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(
    ("method", "options"), [("MaPLe", ()), ("CLIPFit", ()), ("Spotlighter", ("TRAINER.SPOTLIGHTER.JOINT", True))]
)
def test_who_needs_the_images_themselves_refuses_views(data_root, tmp_path, capsys, method, options, views):
    options = [*BY_CHANCE, "DATALOADER.VIEWS", views, *options]
    assert train.main(arguments(data_root, tmp_path / "out", method, options=options)) == 2
    assert "DATALOADER.VIEWS" in capsys.readouterr().err


def test_views_are_of_no_account_where_nothing_is_trained_or_left_to_chance(seen, data_root, tmp_path, capsys):
    assert run(seen, data_root, tmp_path / "a", "ZeroshotCLIP", "", [*BY_CHANCE, "DATALOADER.VIEWS", 3])[0] == 12
    one = run(seen, data_root, tmp_path / "b", "CoOp", "")
    assert are_equal(run(seen, data_root, tmp_path / "c", "CoOp", "", ["DATALOADER.VIEWS", 3])[1:], one[1:])
    assert "DATALOADER.VIEWS changes nothing" in capsys.readouterr().out


def test_pictures_are_not_read_where_nobody_looks_at_them(data_root, tmp_path, monkeypatch):
    trainer = built(data_root, tmp_path, "CoOp", [])
    trainer.before_train()
    read = []
    monkeypatch.setattr("dassl.data.data_manager.DatasetWrapper._picture", lambda self, path: read.append(path))
    batch = next(iter(trainer.train_loader_x))
    assert not read and batch["img"].shape == (4, 0) and len(batch["label"]) == 4
