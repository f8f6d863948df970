"""Pictures of odd kinds become RGB (read_image of ../dassl/utils/tools.py)."""

import os
import struct

import numpy as np
import pytest
from PIL import Image

from dassl.utils import InputError, read_image
from dassl.utils.files import PICTURES


def pixels(path) -> list:
    image = read_image(str(path))
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


def test_grey(tmp_path):
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[0, 0, 0], [7, 7, 7], [255, 255, 255]]]


def test_black_and_white(tmp_path):
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_keeps_its_range(tmp_path, suffix):
    """0 to 65535 become 0 to 255: 257 is one step, 256 is nearer to it than 128 is."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[0, 128, 129, 256, 257, 32896, 65535]], np.uint16)).save(path)
    assert [pixel[0] for pixel in pixels(path)[0]] == [0, 0, 1, 1, 1, 128, 255]
    assert all(len(set(pixel)) == 1 for pixel in pixels(path)[0])


@pytest.mark.parametrize(
    ("kind", "says"),
    [(np.int32, "signed or 32-bit integer"), (np.float32, "floating-point")],
)
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_pixels_of_unknown_range_are_refused(tmp_path, kind, says, white):
    """No file states what is white in them: each guess is black or white for somebody."""
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, white / 3, white]]).astype(kind)).save(path)
    with pytest.raises(InputError, match=rf"{path} has {says} pixels, whose range .*: save it with 8 or 16"):
        read_image(str(path))


def write_tiff(path, photometric: int, bits: int, data: bytes, sample: int = 1, width: int = 2) -> None:
    """A TIFF of one row, which Pillow does not write."""
    tags = [(256, 3, width), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1),
            (278, 3, 1), (279, 4, len(data)), (339, 3, sample)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = data + bytes(len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))


def test_grey_of_12_bits_and_white_at_0(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, photometric=1, bits=12, data=bytes([0xFF, 0xF0, 0x00]))
    assert [pixel[0] for pixel in pixels(path)[0]] == [255, 0]
    write_tiff(path, photometric=0, bits=16, data=struct.pack("<HH", 0, 65535))
    assert [pixel[0] for pixel in pixels(path)[0]] == [255, 0]
    write_tiff(path, photometric=1, bits=16, data=struct.pack("<hh", -5, 300), sample=2)
    with pytest.raises(InputError, match="signed or 32-bit integer"):
        read_image(str(path))


@pytest.mark.parametrize("white", [1023, 65535])
def test_pgm(tmp_path, white):
    """It states its white itself."""
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P5 3 1 {white}\n".encode() + struct.pack(">HHH", 0, round(white / 255), white))
    assert [pixel[0] for pixel in pixels(path)[0]] == [0, 1, 255]


def test_cmyk(tmp_path):
    """Full cyan is no red, black ink is black, no ink is white."""
    image = Image.new("CMYK", (3, 1))
    for x, ink in enumerate([(255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0)]):
        image.putpixel((x, 0), ink)
    image.save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif") == [[[0, 255, 255], [0, 0, 0], [255, 255, 255]]]


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(np.array(pixels(tmp_path / "a.jpg")) - [0, 255, 255]).max() <= 3


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_transparency_is_dropped(tmp_path):
    """A pixel keeps the colour beneath it, with an alpha channel, in grey, and in a palette."""
    Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(tmp_path / "rgba.png")
    assert pixels(tmp_path / "rgba.png") == [[[10, 20, 30]]]
    Image.new("LA", (1, 1), (7, 0)).save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png") == [[[7, 7, 7]]]
    image = Image.new("P", (2, 1))
    image.putpalette([200, 30, 30, 40, 60, 200])
    image.putpixel((1, 0), 1)
    for transparency in (0, b"\x00\x80"):  # one entry, or an alpha for each
        image.save(tmp_path / "palette.png", transparency=transparency)
        assert pixels(tmp_path / "palette.png") == [[[200, 30, 30], [40, 60, 200]]]


def test_first_picture_of_a_moving_one(tmp_path):
    frames = [Image.new("RGB", (1, 1), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.gif") == [[[255, 0, 0]]]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, [["a", "b", "c"]]),
        (2, [["c", "b", "a"]]),
        (3, [["c", "b", "a"]]),
        (6, [["a"], ["b"], ["c"]]),
        (8, [["c"], ["b"], ["a"]]),
    ],
)
def test_exif_orientation(tmp_path, orientation, turned):
    colours = {"a": [250, 0, 0], "b": [0, 250, 0], "c": [0, 0, 250]}
    image = Image.fromarray(np.array([list(colours.values())], np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    assert pixels(tmp_path / "a.png") == [[colours[letter] for letter in row] for row in turned]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0, 0.05, 0.6])
def test_truncated_and_empty(tmp_path, suffix, share):
    path = tmp_path / f"a picture.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert len(pixels(path)) == 32
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"{path} cannot be read .*fetch it again, or take it out"):
        read_image(str(path))


def test_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"a\.jpg cannot be read"):
        read_image(str(tmp_path / "a.jpg"))
    with pytest.raises(InputError, match=r"b\.jpg does not exist"):
        read_image(str(tmp_path / "b.jpg"))


@pytest.mark.parametrize("suffix", ["jpg", "eps"])
def test_no_other_program_is_started_for_a_picture(tmp_path, monkeypatch, suffix):
    """Pillow hands EPS to Ghostscript, by what a file holds and not by its name."""
    called = tmp_path / "called"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {called}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for again
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(InputError, match=rf"{path} cannot be read \(it is none of JPEG, PNG, .*\): fetch it again"):
        read_image(str(path))
    assert not called.exists()


@pytest.mark.parametrize("suffix", PICTURES)
def test_every_suffix_that_is_a_picture_is_read(tmp_path, suffix):
    Image.new({".pbm": "1", ".pgm": "L"}.get(suffix, "RGB"), (8, 8), 1).save(tmp_path / f"a{suffix}")
    assert read_image(str(tmp_path / f"a{suffix}")).size == (8, 8)


def test_a_picture_that_would_fill_the_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P5 20000 20000 255\n")
    with pytest.raises(InputError, match=rf"{path} has more than 178,956,970 pixels, or is more than 1,000 times"):
        read_image(str(path))
    monkeypatch.setattr("dassl.utils.tools.MOST_PIXELS", 63)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="b.png has more than 63 pixels"):
        read_image(str(tmp_path / "b.png"))


def test_several_pictures_in_one_file_give_the_first(tmp_path):
    """As cameras write them: an MPO is a JPEG with more behind it."""
    first, second = Image.new("RGB", (8, 8), 1), Image.new("RGB", (4, 4))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").format == "MPO" and read_image(str(tmp_path / "a.jpg")).size == (8, 8)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.png"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(InputError, match="a.png is no file: take it out of the list"):
        read_image(str(path))
