"""Image files of all kinds, through the whole build."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from une_jax import zoo

EDGE = 16


@pytest.fixture(scope="module")
def picture():
    """An image whose every pixel and corner differ."""
    ramp = np.arange(EDGE * EDGE, dtype=np.uint8).reshape(EDGE, EDGE)
    return Image.fromarray(np.stack([ramp, ramp.T, 255 - ramp], -1))


def huge_png():
    """A header that promises 12,000 x 12,000 pixels, and little more."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.fixture(scope="module")
def good(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    picture.save(folder / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise before it is shown
    lying = picture.transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "rotated.png", exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.tif")
    picture.convert("CMYK").convert("RGB").save(folder / "cmyk_as_rgb.png")
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(grey).save(folder / "sixteen_as_eight.png")
    (folder / "notes.txt").write_text("no image, and by its name none")
    (folder / "deep").mkdir()
    picture.save(folder / "deep" / "upright.bmp")
    return folder


@pytest.fixture(scope="module")
def bad(picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    picture.save(folder / "good.jpg")
    (folder / "cut.jpg").write_bytes((folder / "good.jpg").read_bytes()[:-40])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "huge.png").write_bytes(huge_png())
    (folder / "missing.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "text.png").write_text("I am no image")
    Image.new("RGB", (3000, 2)).save(folder / "thin.png")
    return folder


def build(run, folder, eyes, out, *more):
    args = ("--images", folder, "--encoder", f"eyes={eyes}", "--batch-size", 8)
    return run("build", *args, "--out", out, *more)


def test_every_kind_of_image_arrives_upright_and_in_rgb(run, good, eyes, tmp_path):
    ran = build(run, good, eyes, tmp_path / "zoo")
    assert ran.code == 0 and "7 rows ok, 0 failed" in ran.out
    opened = zoo.open(tmp_path / "zoo")
    seen = dict(zip(opened.keys, opened["eyes"][:], strict=True))
    np.testing.assert_array_equal(seen["rotated.png"], seen["upright.png"])
    np.testing.assert_array_equal(seen["deep/upright.bmp"], seen["upright.png"])
    np.testing.assert_array_equal(seen["cmyk.tif"], seen["cmyk_as_rgb.png"])
    np.testing.assert_array_equal(seen["sixteen.png"], seen["sixteen_as_eight.png"])
    assert np.abs(seen["upright.png"] - seen["sixteen.png"]).max() > 1e-3


def test_bad_files_are_failed_rows_with_a_reason_and_the_rest_is_built(
    run, bad, eyes, tmp_path
):
    ran = build(run, bad, eyes, tmp_path / "zoo", "--json")
    assert ran.code == 0 and ran.json["ok"] == 1
    reasons = dict(ran.json["failures"])
    for key, reason in {
        "cut.jpg": "cannot decode: ",
        "empty.jpg": "empty file (0 bytes)",
        "huge.png": "12000 x 12000 is more than the 100,000,000 pixels allowed",
        "missing.jpg": "cannot read: No such file or directory",
        "text.png": "cannot decode: cannot identify image file",
        "thin.png": "3000 x 2 is too long and thin for eyes",
    }.items():
        assert reasons.pop(key).startswith(reason), key
    assert not reasons
    opened = zoo.open(tmp_path / "zoo")
    assert opened.keys == ["good.jpg"] and zoo.verify(tmp_path / "zoo") == []


def test_failures_are_listed_by_key_once_with_their_reason(run, bad, eyes, tmp_path):
    lines = build(run, bad, eyes, tmp_path / "zoo").out.splitlines()
    assert lines[0] == f"{tmp_path / 'zoo'}: 1 rows ok, 6 failed"
    assert lines[2] == "  failed: empty.jpg: empty file (0 bytes); fetch it again"


def test_a_folder_of_nothing_but_bad_files_is_built_too(run, eyes, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"")
    ran = build(run, tmp_path / "images", eyes, tmp_path / "zoo")
    assert ran.code == 0 and "0 rows ok, 1 failed" in ran.out
    assert len(zoo.open(tmp_path / "zoo")["eyes"]) == 0
