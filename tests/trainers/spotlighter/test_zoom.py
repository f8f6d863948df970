"""Windows to look at again (trainers/spotlighter/zoom.py), against planted peaks and pixels counted by hand."""

import math

import pytest
import torch

from trainers.spotlighter.zoom import APART, FINE, cut, grid_places, inside, peaks, window_centres


def place(r, c, side):
    """The centre (x, y) of a patch."""
    return [(c + 0.5) / side, (r + 0.5) / side]


def noise(count, side, seed=0):
    return torch.randn(count, side * side, generator=torch.Generator().manual_seed(seed))


def near(centre, expected, within=1e-3):
    return math.dist(centre.tolist(), expected) <= within


# --- where ---------------------------------------------------------------------------------------------------------


def test_places_run_from_the_upper_left():
    assert grid_places(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


@pytest.mark.parametrize("side", [7, 8, 14])
def test_a_planted_patch_is_found_anywhere(side):
    """In the middle, at borders and in corners: every image has its peak at another patch."""
    activation = 0.1 * noise(side * side, side)
    activation[torch.arange(side * side), torch.arange(side * side)] = 50.0
    centres = window_centres(activation, 1)
    assert centres.shape == (side * side, 1, 2)
    for r in range(side):
        for c in range(side):
            assert near(centres[r * side + c, 0], place(r, c, side))


def blob(x, y, side, width=0.13):
    """An activation (1, side * side) that falls off from a place (x, y)."""
    return -((grid_places(side) - torch.tensor([x, y])).square().sum(dim=1) / width**2)[None].clamp_max(9)


@pytest.mark.parametrize("side", [8, 14])
def test_a_peak_lies_between_patches(side):
    """Wherever an object is, within a step of the fine grid, where a place on the patches' grid would be half a patch off."""
    for x, y in ((0.4, 0.6), (0.51, 0.33), (0.7, 0.45), (0.3, 0.3)):
        assert near(peaks(blob(x, y, side), 1)[0, 0], (x, y), within=1.5 / (side * FINE))


def test_the_next_peak_is_apart_and_the_stronger_first():
    activation = torch.maximum(blob(0.25, 0.3, 8) - 0.5, blob(0.7, 0.6, 8))
    first, second = peaks(activation, 2)[0]
    assert near(first, (0.7, 0.6), 0.03) and near(second, (0.25, 0.3), 0.03)
    twice = peaks(blob(0.5, 0.5, 8), 2)[0]
    assert math.dist(*twice.tolist()) >= APART


def test_peaks_of_an_image_alone():
    activation = noise(4, 8)
    assert torch.equal(peaks(activation, 3), torch.cat([peaks(row[None], 3) for row in activation]))


def test_a_planted_patch_is_found_among_unknown_ones():
    """Three in four patches are unknown, also all of those around it."""
    for index in range(0, 64, 5):
        activation = 0.1 * noise(1, 8)
        r, c = divmod(index, 8)
        for other in range(64):
            if max(abs(other // 8 - r), abs(other % 8 - c)) == 1 or (other % 4 and other != index):
                activation[0, other] = torch.nan
        activation[0, index] = 50.0
        assert near(window_centres(activation, 1)[0, 0], place(r, c, 8))


def test_the_unknown_is_no_peak():
    """All that is known is far below zero: a patch that is unknown does not count as zero, nor draws the window."""
    activation = torch.full((1, 64), torch.nan)
    activation[0, [9, 10, 17, 63]] = -20.0
    activation[0, 18] = -19.0
    assert near(window_centres(activation, 1)[0, 0], place(2, 2, 8))


@pytest.mark.parametrize("x, y", [(0.31, 0.62), (0.5, 0.5), (0.8, 0.2)])
def test_a_broad_peak_between_patches(x, y):
    """The window is centred on it to within a patch, and lies on its side of the grid's nearest patch."""
    distance = (grid_places(8) - torch.tensor([x, y])).norm(dim=1)
    centre = window_centres(6 * torch.exp(-((distance / 0.2) ** 2))[None], 1)[0, 0]
    assert near(centre, [x, y], within=0.06)


def test_the_mean_of_a_neighbourhood_decides():
    """One strong patch in a weak neighbourhood loses against a strong neighbourhood."""
    activation = torch.zeros(1, 64)
    activation[0, 18] = 4.0  # alone: a mean of 4 / 9
    for r in (4, 5, 6):
        activation[0, 8 * r + 4 : 8 * r + 7] = 1.0  # a mean of 1
    assert near(window_centres(activation, 1)[0, 0], place(5, 5, 8))


def test_strongest_first_and_apart():
    """Three planted peaks, and a fourth, stronger than two of them, that lies too near to the first."""
    activation = torch.zeros(1, 196)
    for (r, c), height in {(3, 3): 90.0, (3, 5): 80.0, (10, 3): 70.0, (10, 11): 60.0}.items():
        activation[0, 14 * r + c] = height
    centres = window_centres(activation, 3)[0]
    for centre, (r, c) in zip(centres, [(3, 3), (10, 3), (10, 11)], strict=True):
        assert near(centre, place(r, c, 14))


def by_hand(activation, count):
    """One image: (G * G,) -> centres, patch by patch."""
    side = math.isqrt(len(activation))
    values = [None if math.isnan(a) else a for a in activation.tolist()]

    def neighbours(index):
        r, c = divmod(index, side)
        around = [(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        around = [side * i + j for i, j in around if 0 <= i < side and 0 <= j < side]
        return [j for j in around if values[j] is not None]

    centres = []
    for _ in range(count):
        best, peak = -math.inf, None
        for index in range(len(values)):
            x, y = place(*divmod(index, side), side)
            known = neighbours(index)
            if not known or any(math.dist((x, y), other) < APART for other in centres):
                continue
            mean = sum(values[j] for j in known) / len(known)
            if mean > best:
                best, peak = mean, index
        known = neighbours(peak)
        weights = [math.exp(values[j]) for j in known]
        places = [place(*divmod(j, side), side) for j in known]
        centres.append([sum(w * p[k] for w, p in zip(weights, places, strict=True)) / sum(weights) for k in (0, 1)])
    return centres


@pytest.mark.parametrize("side", [7, 8, 14])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_three_windows_by_hand(side, unknown):
    activation = noise(10, side, seed=side)
    activation[torch.rand(activation.shape, generator=torch.Generator().manual_seed(1)) < unknown] = torch.nan
    centres = window_centres(activation, 3)
    assert centres.shape == (10, 3, 2) and centres.min() > 0 and centres.max() < 1
    for mine, image in zip(centres, activation, strict=True):
        for centre, expected in zip(mine, by_hand(image, 3), strict=True):
            assert near(centre, expected)
    for a, b in ((0, 1), (0, 2), (1, 2)):  # a window's centre strays from its peak by less than a patch's diagonal
        assert ((centres[:, a] - centres[:, b]).norm(dim=1) > APART - 2**0.5 / side).all()


def test_centres_are_the_same_again_and_for_each_image_alone():
    activation = noise(16, 8)
    activation[:, ::7] = torch.nan
    centres = window_centres(activation, 3)
    assert torch.equal(window_centres(activation, 3), centres)
    assert torch.equal(window_centres(activation, 1), centres[:, :1])
    for b in range(16):
        torch.testing.assert_close(window_centres(activation[b : b + 1], 3)[0], centres[b])


def test_centres_of_even_and_unknown_maps():
    """Nothing stands out, or nothing is known: the windows are still somewhere in the image."""
    for value in (0.0, torch.nan):
        centres = window_centres(torch.full((2, 64), value), 3)
        assert torch.isfinite(centres).all() and centres.min() > 0 and centres.max() < 1
        assert torch.equal(centres[0], centres[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_centres_of_half_precision_activations(dtype):
    activation = noise(8, 8).to(dtype)
    activation[:, 5] = torch.nan
    assert torch.equal(window_centres(activation, 3), window_centres(activation.float(), 3))


# --- what --------------------------------------------------------------------------------------------------------------


def test_inside():
    centres = torch.tensor([[0.0, 0.5], [0.3, 0.9], [1.0, 0.2]])
    assert inside(centres, 0.5).tolist() == [[0.25, 0.5], [pytest.approx(0.3), 0.75], [0.75, 0.25]]
    assert inside(centres, 1.0).tolist() == [[0.5, 0.5]] * 3


@pytest.fixture
def halves():
    """The left half of each image is 1, the right half 2; the upper half of its last channel 3, the lower 4."""
    image = torch.ones(1, 3, 32, 32)
    image[..., 16:] = 2
    image[:, 2, :16], image[:, 2, 16:] = 3, 4
    return image


def test_half_a_picture(halves):
    """(x, y), in this order: quarters of constant colour."""
    centres = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]])
    windows = cut(halves, centres, 0.5)
    assert windows.shape == (4, 3, 32, 32)
    inner = windows[..., 1:-1, 1:-1]  # the outermost pixels are mixed with what lies across the border
    for window, colours in zip(inner, [(1, 1, 3), (2, 2, 3), (1, 1, 4), (2, 2, 4)], strict=True):
        for channel, colour in zip(window, colours, strict=True):
            torch.testing.assert_close(channel, torch.full_like(channel, colour), atol=1e-4, rtol=0)
    middle = cut(halves, torch.tensor([[[0.5, 0.5]]]), 0.5)[0]
    assert middle[0, :, :15].eq(1).all() and middle[0, :, 17:].eq(2).all()
    assert middle[2, :15].eq(3).all() and middle[2, 17:].eq(4).all()


def test_the_whole_picture():
    images = torch.rand(2, 3, 16, 16)
    windows = cut(images, torch.rand(2, 2, 2), 1.0)
    torch.testing.assert_close(windows, images.repeat_interleave(2, dim=0), atol=1e-5, rtol=0)


def test_pixels_by_hand():
    """Every pixel is read at its place in the window, between the four pixels around that place."""
    H, width = 8, 0.625
    images = torch.rand(2, 3, H, H, generator=torch.Generator().manual_seed(0))
    centres = torch.tensor([[[0.4, 0.6], [0.0, 0.5], [0.9, 0.45]], [[0.5, 0.5], [1.0, 1.0], [0.35, 0.0]]])
    windows = cut(images, centres, width)
    assert windows.shape == (6, 3, H, H)
    for b in range(2):
        for z in range(3):
            cx, cy = (min(max(v, width / 2), 1 - width / 2) for v in centres[b, z].tolist())
            for row in range(H):
                for column in range(H):
                    x = (
                        cx + width * ((column + 0.5) / H - 0.5)
                    ) * H - 0.5  # counted in pixels, from the first's centre
                    y = (cy + width * ((row + 0.5) / H - 0.5)) * H - 0.5
                    left, top = math.floor(x), math.floor(y)
                    value = 0
                    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                        share = (1 - abs(y - top - i)) * (1 - abs(x - left - j))
                        pixel = images[b, :, min(max(top + i, 0), H - 1), min(max(left + j, 0), H - 1)]
                        value = value + share * pixel
                    torch.testing.assert_close(windows[3 * b + z, :, row, column], value, atol=1e-5, rtol=1e-4)


def test_windows_of_an_image_stand_together():
    images, centres = torch.rand(3, 3, 16, 16), torch.rand(3, 2, 2)
    windows = cut(images, centres, 0.5)
    for b in range(3):
        for z in range(2):
            alone = cut(images[b : b + 1], centres[b : b + 1, z : z + 1], 0.5)
            torch.testing.assert_close(windows[2 * b + z], alone[0])


def test_beyond_the_border_there_is_nothing_to_see():
    images = torch.rand(1, 3, 16, 16)
    corner, inner = torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0.25, 0.75]]])
    assert torch.equal(cut(images, corner, 0.5), cut(images, inner, 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [64, 224])
def test_half_precision_images(dtype, size):
    """Places are finer than such numbers: the same pixels as in fp32, rounded."""
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    centres = torch.tensor([[[0.7, 0.7], [0.1, 0.4]], [[0.33, 0.6], [0.5, 0.9]]])
    for width in (0.5, 0.75):
        windows = cut(images, centres, width)
        assert windows.dtype == dtype
        torch.testing.assert_close(windows, cut(images.float(), centres, width).to(dtype))
