"""Pictures of selected tokens: where everything stands, which tokens are shown, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import show_tokens
import train
import trainers.spotlighter as spotlighter
from dassl.data.transforms import build_transform
from one_run.rebuild import rebuild
from show_tokens import Look, draw, look, main
from tests.helpers import CLASSES, arguments

ZOOM = spotlighter.Zoom(map=1, width=0.5, count=3, share=0.5)
NAMES = ["red", "a $class$ with a name that is far too long for its panel", "blue"]


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """A finished run that drops tokens and zooms, on the base classes."""
    output = tmp_path_factory.mktemp("runs") / "spotlighter"
    keys = {"KEEP": 0.6, "ZOOM": 3}
    options = [part for key, value in keys.items() for part in (f"TRAINER.SPOTLIGHTER.{key}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spotlighter, "choose_zoom", lambda *_: ZOOM)
        assert train.main(arguments(data_root, output, "Spotlighter", options=["OPTIM.MAX_EPOCH", 1, *options])) == 0
    return output


@pytest.fixture(scope="module")
def trainer(run):
    return rebuild(run)


@pytest.fixture(scope="module")
def batch(trainer):
    """Four transformed test images."""
    return torch.stack([sample["img"] for sample in list(trainer.test_loader.dataset)[:4]])


def image_of(path, size=(80, 64), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# --- which tokens ------------------------------------------------------------------------------------------------


def test_maps_and_selection(trainer, batch):
    """The R largest of the drawn activation are the head's choice, on the whole grid and in its order."""
    seen = look(trainer, batch)
    alive = trainer.head.drop.alive
    assert seen.alive.sum(dim=1).tolist() == [38] * 4  # 0.6 of 64
    assert torch.equal(seen.alive.nonzero()[:, 1].view(4, -1), alive)
    for values in (seen.sample_wise, seen.semantic_wise, seen.activation):
        assert torch.equal(~values.isnan(), seen.alive)
    theta = trainer.head.scalars.theta.detach()
    combined = theta[0] * seen.sample_wise + theta[1] * seen.semantic_wise
    assert torch.allclose(combined, seen.activation, atol=1e-5, equal_nan=True)
    assert torch.equal(seen.activation.nan_to_num(-99.0).topk(5, dim=1).indices, seen.selected)
    assert seen.level.tolist() == [1, 1, 1, 2, 2]
    with torch.no_grad():  # which of the two is which
        f, v = trainer.model.image_features(batch, tokens=True)
        bank, scalars = trainer.head.bank, trainer.head.scalars
        centred = spotlighter.unit(v - scalars.g_v * bank.token_mean)
        sample_wise, _ = trainer.head.activations(f, centred, trainer.class_state, bank.image_mean, semantic=False)
    assert torch.allclose(seen.sample_wise.gather(1, alive), sample_wise, atol=1e-5)
    assert not torch.allclose(seen.sample_wise, seen.semantic_wise, atol=1e-3, equal_nan=True)


def test_selection_is_the_heads_own(trainer, batch, monkeypatch):
    """What the prediction selected among living tokens is shown at its place on the grid, also if chance drops."""
    chosen, select = [], trainer.head.select
    monkeypatch.setattr(trainer.head, "select", lambda *a, **k: chosen.append((a[1], select(*a, **k))) or chosen[-1][1])
    monkeypatch.setattr(trainer.head.drop, "by", "random")
    before = torch.get_rng_state()
    seen = look(trainer, batch)
    assert torch.equal(torch.get_rng_state(), before)
    (tokens, predicted), (again, shown) = chosen
    assert torch.equal(tokens, again) and torch.equal(predicted.index, shown.index)
    places = [torch.arange(64)[alive][index] for alive, index in zip(seen.alive, predicted.index, strict=True)]
    assert torch.equal(seen.selected, torch.stack(places))


def test_prediction_and_windows_are_the_trainers(trainer, batch, monkeypatch):
    windows, cut = [], spotlighter.cut
    monkeypatch.setattr(spotlighter, "cut", lambda *a: windows.append(a[1:]) or cut(*a))
    seen = look(trainer, batch)
    with torch.no_grad():
        assert torch.allclose(seen.probabilities, trainer.model_inference(batch).softmax(dim=1), atol=1e-6)
    centres, width = windows[0]
    assert seen.windows.shape == (4, 3, 4) and width == 0.5
    assert torch.allclose(seen.windows[..., 2:] - seen.windows[..., :2], torch.tensor(0.5))
    assert torch.allclose(seen.windows.unflatten(-1, (2, 2)).mean(dim=-2), centres.clamp(0.25, 0.75))
    assert seen.windows.min() >= 0 and seen.windows.max() <= 1


def test_without_dropping_and_zoom(trainer, batch, monkeypatch):
    monkeypatch.setattr(trainer.model, "image_edits", [])
    monkeypatch.setattr(trainer.head, "drop", None)
    monkeypatch.setattr(trainer.head, "zoom", None)
    monkeypatch.setattr(trainer.head, "level_count", 1)
    seen = look(trainer, batch)
    assert seen.alive.all() and seen.windows.shape == (4, 0, 4) and seen.level.tolist() == [1] * 5
    assert not seen.activation.isnan().any()
    with torch.no_grad():
        f, v = trainer.model.image_features(batch, tokens=True)
        bank = trainer.head.bank
        chosen = trainer.head.select(f, v, trainer.class_state, bank.image_mean, bank.token_mean)
    assert torch.equal(seen.selected, chosen.index)  # all are alive, so they need no translation
    assert torch.allclose(seen.activation.gather(1, seen.selected), chosen.activation, atol=1e-5)
    texts = legend(
        draw(
            torch.rand(3, 64, 64),
            Look(*(part[:1] for part in seen[:-3]), seen.level, *(part[:1] for part in seen[-2:])),
            NAMES,
            "",
        )
    )
    assert texts == ["level 1: ranks 1-5"]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- where it stands ---------------------------------------------------------------------------------------------


def test_everything_lies_on_its_pixels(trainer):
    """A white square in an image that is resized and cropped fills patch 21 = (row 2, column 5) of the image seen."""
    pixels = np.zeros((128, 160, 3), dtype=np.uint8)  # resized to 64 x 80, of which columns 8 to 72 remain
    pixels[32:48, 96:112] = 255
    image = Image.fromarray(pixels)
    picture = build_transform(trainer.cfg, is_train=False, choices=())(image)
    bright = picture.mean(dim=0) > 0.5  # (64, 64)
    assert bright.sum() == 64 and bright[16:24, 40:48].all()
    visual, prepare = trainer.model.clip.visual, build_transform(trainer.cfg, is_train=False)
    with torch.no_grad():  # the token that the model makes of these pixels has this number
        difference = visual.conv1((prepare(image) - prepare(Image.new("RGB", image.size)))[None]).flatten(2)
    assert difference.norm(dim=1).argmax() == 21

    values = torch.zeros(1, 64)
    values[0, 21], values[0, 22] = 1.0, torch.nan
    seen = Look(
        probabilities=torch.tensor([[0.1, 0.7, 0.2]]),
        sample_wise=values,
        semantic_wise=2 * values,
        activation=3 * values,
        selected=torch.tensor([[21, 0, 63, 7, 56]]),
        level=torch.tensor([1, 1, 1, 2, 2]),
        alive=~values.isnan(),
        windows=torch.tensor([[[0.5, 0.25, 1.0, 0.75], [0.0, 0.0, 0.5, 0.5]]]),
    )
    figure = draw(picture, seen, NAMES, "a title with a $")
    panels = figure.axes[:5]
    for panel in panels[:4]:
        assert panel.get_xlim() == (0, 64) and panel.get_ylim() == (64, 0)
    assert torch.equal(torch.as_tensor(on_pixels(panels[0].images[0])), picture.permute(1, 2, 0))
    for factor, panel in enumerate(panels[1:4], 1):
        below, grid, veil = map(on_pixels, panel.images)
        assert np.array_equal(below > 0.5, bright)  # the image itself
        assert np.array_equal(grid.filled(0) == factor, bright)
        dropped = np.roll(bright.numpy(), 8, axis=1)  # patch 22 is the next to the right
        assert np.array_equal(np.ma.getmaskarray(grid), dropped)
        assert np.array_equal(veil[..., 3] > 0, dropped)

    boxes = {text.get_text(): text.get_position() for text in panels[3].texts}
    assert boxes == {"1": (44, 20), "2": (4, 4), "3": (60, 60), "4": (60, 4), "5": (4, 60)}
    outlines = {box.get_xy(): (box.get_width(), box.get_height(), box.get_edgecolor()) for box in panels[3].patches}
    assert outlines.keys() == {(40, 16), (0, 0), (56, 56), (56, 0), (0, 56)}
    assert {size[:2] for size in outlines.values()} == {(8, 8)}
    one, two = outlines[(40, 16)][2], outlines[(56, 0)][2]
    assert one != two and outlines[(0, 0)][2] == outlines[(56, 56)][2] == one and outlines[(0, 56)][2] == two
    windows = [(*box.get_xy(), box.get_width(), box.get_height()) for box in panels[0].patches]
    assert windows == [(32, 16, 32, 32), (0, 0, 32, 32)]

    assert panels[0].get_title().startswith("a $class$ with") and panels[0].get_title().endswith("…, 70%")
    assert [text.get_text().split()[0] for text in panels[4].texts] == ["70%", "20%", "10%"]
    assert [bar.get_width() for bar in panels[4].patches] == pytest.approx([0.7, 0.2, 0.1])
    assert legend(figure) == [
        "level 1: ranks 1-3", "level 2: ranks 4-5", "dropped inside the encoder (1 of 64)", "looked at again"
    ]  # fmt: skip
    assert figure.get_suptitle() == "a title with a $"


def on_pixels(image):
    """What an image artist shows at the centres of 64 x 64 pixels: (64, 64, ...)."""
    left, right, lower, upper = image.get_extent()
    values, centre = image.get_array(), np.arange(64) + 0.5
    rows = ((centre - upper) / (lower - upper) * values.shape[0]).astype(int)
    columns = ((centre - left) / (right - left) * values.shape[1]).astype(int)
    return values[rows][:, columns]


# --- the command -------------------------------------------------------------------------------------------------


def test_a_folder(run, tmp_path, monkeypatch, capsys):
    """Every image at any depth, one picture each, of the very image that the model saw."""
    images = [
        image_of(tmp_path / "photos" / name, size, seed)
        for seed, (name, size) in enumerate(
            {"a.png": (80, 64), "x/a.png": (50, 90), "x/y/B.JPG": (64, 64), "a.jpg": (64, 64)}.items()
        )
    ]
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".a.png").write_text("no image either")
    saw, drawn = [], []
    monkeypatch.setattr(show_tokens, "look", lambda t, x: saw.append(x[0]) or look(t, x))
    monkeypatch.setattr(show_tokens, "draw", lambda *a: drawn.append(a) or draw(*a))
    assert main([str(run), str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 0
    written = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    expected = [tmp_path / "out" / f"{path.relative_to(tmp_path)}.png" for path in images]
    assert written == sorted(expected)
    lines = capsys.readouterr().out.splitlines()
    for path in written:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG" and picture.width > 3 * picture.height
        assert any(line.startswith(f"{path}: ") and line.split(": ")[1].split(",")[0] in CLASSES[:3] for line in lines)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in PIXELS)
    for normalised, (picture, _, names, title) in zip(saw, drawn, strict=True):
        assert torch.allclose((picture - mean) / deviation, normalised, atol=1e-5)
        assert names == CLASSES[:3] and "KEEP 0.6, ZOOM 3" in title and "Spotlighter over CoOp" in title


PIXELS = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])  # CLIP's mean and deviation


def test_classes_and_root(run, data_root, tmp_path, monkeypatch):
    """Other classes, in a data folder that was moved; a kill or a full disk leaves the former picture."""
    shutil.copytree(data_root, tmp_path / "moved")
    roots, names = [], []

    def rebuilt(*args):
        trainer = rebuild(*args)
        roots.append(trainer.cfg.DATASET.ROOT)
        names.append(list(trainer.lab2cname.values()))
        return trainer

    monkeypatch.setattr(show_tokens, "rebuild", rebuilt)
    image, out = image_of(tmp_path / "photos" / "a.png"), tmp_path / "out"
    line = [str(run), str(image), "--out", str(out), "--root", str(tmp_path / "moved"), "--classes", "new"]
    assert main(line) == 0
    assert roots == [str(tmp_path / "moved")] and names == [CLASSES[3:]]
    former = (out / "photos" / "a.png.png").read_bytes()

    def full_disk(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    assert main(line) == 2
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["a.png.png"]
    assert (out / "photos" / "a.png.png").read_bytes() == former


def changed_record(run, folder, **changes):
    """A copy of the run whose record says something else."""
    shutil.copytree(run, folder)
    record = json.loads((run / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(record | changes))
    return folder


BAD = {
    "no run": lambda run, tmp: ([tmp / "nowhere", tmp / "a.png"], "nowhere does not exist"),
    "no record": lambda run, tmp: ([tmp, tmp / "a.png"], "holds no results.json"),
    "method": lambda run, tmp: ([changed_record(run, tmp / "b", method="CoOp"), tmp / "a.png"], "is a run of CoOp"),
    "unfinished": lambda run, tmp: ([changed_record(run, tmp / "b", state="running"), tmp / "a.png"], "not finished"),
    "a test": lambda run, tmp: (
        [changed_record(run, tmp / "b", weights={"model_dir": "there"}), tmp / "a.png"],
        "test of the model in there",
    ),
    "no image": lambda run, tmp: ([run, tmp / "b.png"], "b.png does not exist"),
    "empty folder": lambda run, tmp: ([run, run], "no image under"),
    "unreadable": lambda run, tmp: ([run, tmp / "broken.png"], "broken.png cannot be read"),
    "one unreadable": lambda run, tmp: ([run, tmp], "broken.png cannot be read"),
    "data": lambda run, tmp: ([run, tmp / "a.png", "--root", tmp / "nowhere"], "nowhere does not exist: pass --root"),
    "epoch": lambda run, tmp: ([run, tmp / "a.png", "--load-epoch", 7], "choose one with --load-epoch"),
    "key": lambda run, tmp: ([run, tmp / "a.png", "--opts", "OPTIM.RL", 1], "OPTIM.LR"),
    "out a file": lambda run, tmp: ([run, tmp / "a.png", "--out", tmp / "a.png"], "a.png is a file"),
    "out among images": lambda run, tmp: ([run, tmp, "--out", tmp / "sub"], "choose another --out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(run, tmp_path, case, capsys, monkeypatch):
    """One sentence that names the thing, exit code 2, and no file written."""
    monkeypatch.chdir(tmp_path)
    image_of(tmp_path / "a.png")
    whole = image_of(tmp_path / "broken.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    line, says = BAD[case](run, tmp_path)
    if "--out" not in line:
        line += ["--out", tmp_path.parent / f"{tmp_path.name}_out"]
    before = sorted(tmp_path.parent.rglob("*"))
    assert main([str(part) for part in line]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and says in errors[0]
    assert sorted(tmp_path.parent.rglob("*")) == before
