"""Pictures of selected tokens (trainers/spotlighter/picture.py): everything stands where it belongs."""

import numpy as np
import pytest
import torch
from PIL import Image

import train
from dassl.data.transforms import build_transform
from tests.helpers import arguments
from trainers.shared.prompted_clip import load_clip
from trainers.spotlighter.look import Look
from trainers.spotlighter.picture import draw

NAMES = ["red", "a $class$ with a name that is far too long for its panel", "blue"]


@pytest.fixture(scope="module")
def cfg(data_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    return train.build_config(train.parse_arguments(arguments(data_root, output, "Spotlighter")))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_everything_lies_on_its_pixels(cfg):
    """A white square in an image that is resized and cropped fills patch 21 = (row 2, column 5) of the image seen."""
    pixels = np.zeros((128, 160, 3), dtype=np.uint8)  # resized to 64 x 80, of which columns 8 to 72 remain
    pixels[32:48, 96:112] = 255
    image = Image.fromarray(pixels)
    picture = build_transform(cfg, is_train=False, choices=())(image)
    bright = picture.mean(dim=0) > 0.5  # (64, 64)
    assert bright.sum() == 64 and bright[16:24, 40:48].all()
    clip_model = load_clip(cfg.MODEL.BACKBONE.NAME, "fp32", torch.device("cpu"))
    visual, prepare = clip_model.visual, build_transform(cfg, is_train=False)
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
        attention=values,
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


def test_without_dropping_and_zoom():
    """One level, nothing dropped and nothing looked at again: the legend has no more than that."""
    values = torch.rand(1, 64)
    seen = Look(
        probabilities=torch.tensor([[0.1, 0.7, 0.2]]),
        sample_wise=values,
        semantic_wise=values,
        activation=values,
        selected=values.topk(5).indices,
        level=torch.tensor([1] * 5),
        alive=~values.isnan(),
        windows=torch.empty(1, 0, 4),
        attention=values,
    )
    assert legend(draw(torch.rand(3, 64, 64), seen, NAMES, "")) == ["level 1: ranks 1-5"]


def test_a_plan_without_patch_tokens():
    """No token is selected; what is shown is where it looks again, and what the plan is."""
    unknown, attention, alive = torch.full((1, 64), torch.nan), torch.rand(1, 64), torch.ones(1, 64, dtype=torch.bool)
    alive[0, 5] = False
    seen = Look(
        probabilities=torch.tensor([[0.1, 0.7, 0.2]]),
        sample_wise=unknown,
        semantic_wise=unknown,
        activation=unknown,
        selected=torch.empty(1, 0, dtype=torch.long),
        level=torch.empty(0, dtype=torch.long),
        alive=alive,
        windows=torch.tensor([[[0.5, 0.25, 1.0, 0.75]]]),
        attention=attention,
        plan="a glance, then 1 region",
    )
    figure = draw(torch.rand(3, 64, 64), seen, NAMES, "bee.jpg")
    panels = figure.axes[:5]
    assert figure._suptitle.get_text() == "bee.jpg: a glance, then 1 region"
    assert [panel.get_visible() for panel in panels] == [True, True, False, True, True]
    assert "no tokens are selected" in panels[3].texts[0].get_text()
    shown = torch.as_tensor(on_pixels(panels[1].images[1]))
    assert torch.allclose(shown.float(), attention.view(8, 8).repeat_interleave(8, 0).repeat_interleave(8, 1))
    assert legend(figure) == ["dropped inside the encoder (1 of 64)", "looked at again"]

    one_look = seen._replace(windows=torch.empty(1, 0, 4), attention=unknown)  # for which no attention is asked
    panels = draw(torch.rand(3, 64, 64), one_look, NAMES, "bee.jpg").axes[:5]
    assert [panel.get_visible() for panel in panels] == [True, False, False, True, True]
