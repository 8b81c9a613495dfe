import doctest
import hashlib
import os
import struct
import threading
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from une_jax import images
from une_jax.errors import UneError


def picture(width=12, height=8):
    """An RGB picture that no rotation or flip leaves as it is."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 20, y * 30, np.full_like(x, 90)], -1).astype(np.uint8)
    return Image.fromarray(pixels)


def test_examples_in_docstrings():
    assert doctest.testmod(images).failed == 0


def test_keys_are_relative_posix_paths_sorted_and_recursive(tmp_path):
    for name in [
        "b.jpg",
        "a/z.PNG",
        "a/b/c.WebP",
        "a.tiff",
        "B.bmp",
        "x.jpeg",
        "y.tif",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in [".hidden.jpg", "notes.txt", "a/.cache/d.jpg", "jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    expected = ["B.bmp", "a.tiff", "a/b/c.WebP", "a/z.PNG", "b.jpg", "x.jpeg", "y.tif"]
    assert images.list_images(tmp_path) == expected
    assert images.list_images(f"{tmp_path}/") == expected


def test_linked_files_are_listed_and_linked_folders_are_not_entered(tmp_path):
    picture().save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert images.list_images(tmp_path) == ["a.png", "link.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("file", "not a folder"), ("empty", "no images")],
)
def test_a_bad_image_folder_is_named(tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UneError, match=rf"{name}.*{message}|{message}.*{name}"):
        images.list_images(tmp_path / name)


@pytest.mark.parametrize("name", [b"\xff.jpg", b"a\nb.jpg"])
def test_names_that_a_zoo_cannot_store_are_refused(tmp_path, name):
    open(os.fsencode(tmp_path) + b"/" + name, "wb").close()
    with pytest.raises(UneError, match="rename"):
        images.list_images(tmp_path)


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_decode_exactly(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    picture().save(path, **({"lossless": True} if extension == "webp" else {}))
    image = images.decode(path)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(picture()))


# How a camera stores an upright picture under each EXIF orientation.
STORED = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u),  # held clockwise, so stored counterclockwise
    7: lambda u: u[::-1, ::-1].swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


@pytest.mark.parametrize("extension", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_undone(tmp_path, extension, orientation):
    upright = np.asarray(picture())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{extension}"
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(path, exif=exif, **({"quality": 100} if extension == "jpg" else {}))
    got = np.asarray(images.decode(path))
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 6


def test_transparency_is_composited_on_white(tmp_path):
    rgba = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((255, 128, 0)):
        rgba.putpixel((x, 0), (200, 0, 100, alpha))
    rgba.save(tmp_path / "rgba.png")
    rgba.getchannel("R").save(tmp_path / "key.png", transparency=200)
    Image.merge("LA", (rgba.getchannel("R"), rgba.getchannel("A"))).save(
        tmp_path / "la.png"
    )
    got = np.asarray(images.decode(tmp_path / "rgba.png"))[0].tolist()
    assert got == [[200, 0, 100], [227, 127, 177], [255, 255, 255]]
    got = np.asarray(images.decode(tmp_path / "la.png"))[0].tolist()
    assert got == [[200] * 3, [227] * 3, [255] * 3]
    assert np.asarray(images.decode(tmp_path / "key.png")).min() == 255


def test_palettes_keep_their_colours_and_their_transparency(tmp_path):
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        palette.putpixel((x, 0), x)
    palette.save(tmp_path / "p.png")
    # Transparency as bytes is what Pillow warns about.
    palette.save(tmp_path / "t.png", transparency=b"\xff\x00\xff")
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    got = np.asarray(images.decode(tmp_path / "p.png"))[0].tolist()
    assert got == [red, green, blue]
    got = np.asarray(images.decode(tmp_path / "t.png"))[0].tolist()
    assert got == [red, [255] * 3, blue]


def test_cmyk_black_and_white_and_grey(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    red = np.asarray(images.decode(tmp_path / "c.jpg"))[4, 4]
    np.testing.assert_allclose(red, [255, 0, 0], atol=3)
    Image.new("1", (2, 2), 1).save(tmp_path / "one.png")
    assert np.asarray(images.decode(tmp_path / "one.png")).min() == 255
    Image.new("L", (2, 2), 77).save(tmp_path / "l.bmp")
    assert (np.asarray(images.decode(tmp_path / "l.bmp")) == 77).all()


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, extension):
    levels = np.array([[0, 256, 257, 32768, 65535]], np.uint16)
    path = tmp_path / f"a.{extension}"
    Image.fromarray(levels).save(path)
    got = np.asarray(images.decode(path))[0, :, 0].tolist()
    assert got == [0, 1, 1, 128, 255]


def test_big_endian_16_bit_grey(tmp_path):
    image = Image.new("I;16B", (1, 1))
    image.putpixel((0, 0), 128 * 257)
    image.save(tmp_path / "a.tiff")
    assert images.decode(tmp_path / "a.tiff").getpixel((0, 0)) == (128,) * 3


def test_12_bit_grey_is_scaled_by_its_own_range(tmp_path):
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (279, 3)]
    packed = (0xFFF_800).to_bytes(3, "big")  # two samples: 4095 and 2048
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    header = b"II*\0" + struct.pack("<I", 12) + packed + b"\0"
    (tmp_path / "a.tif").write_bytes(header + directory + bytes(4))
    got = np.asarray(images.decode(tmp_path / "a.tif"))[0, :, 0].tolist()
    assert got == [255, 128]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_fixed_range_are_refused(tmp_path, mode):
    Image.new(mode, (2, 2)).save(tmp_path / "a.tiff")
    with pytest.raises(UneError, match="a.tiff.*32-bit"):
        images.decode(tmp_path / "a.tiff")


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tiff", "webp"])
def test_truncated_files_are_refused_and_named(tmp_path, extension):
    path = tmp_path / f"cut.{extension}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UneError, match=f"cut.{extension}"):
        images.decode(path)


def test_files_that_are_no_images_are_refused_and_named(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UneError, match="empty.png: empty file"):
        images.decode(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_bytes(b"hello")
    with pytest.raises(UneError, match="text.jpg: cannot decode"):
        images.decode(tmp_path / "text.jpg")
    with pytest.raises(UneError, match="gone.jpg: no such file"):
        images.decode(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UneError, match="pipe.jpg: not a regular file"):
        images.decode(tmp_path / "pipe.jpg")


def test_bytes_decode_as_the_file_that_they_are_from(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    got, expected = images.decode(data), images.decode(tmp_path / "a.jpg")
    assert got.size == (8, 12)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_bytes_that_are_no_images_are_refused_by_their_cause_alone(tmp_path):
    picture().save(tmp_path / "a.gif")
    gif = (tmp_path / "a.gif").read_bytes()
    for data in (b"hello", gif, b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UneError) as refusal:
            images.decode(data)
        assert str(refusal.value) == "cannot decode: cannot identify image file"
    with pytest.raises(UneError) as refusal:
        images.decode(b"")
    assert str(refusal.value) == "empty file (0 bytes); fetch it again"
    picture(64, 64).save(tmp_path / "a.png")
    cut = (tmp_path / "a.png").read_bytes()[:100]
    with pytest.raises(UneError, match="^cannot decode: image file is truncated"):
        images.decode(cut)


def test_formats_outside_the_list_are_refused_whatever_their_name(tmp_path):
    picture().save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(UneError, match="a.png: cannot decode"):
        images.decode(tmp_path / "a.png")


def bomb(path, side):
    """A PNG whose header claims side x side pixels, with no pixels in it."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = (
        chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
def test_bombs_are_refused_from_the_header(tmp_path, side, monkeypatch):
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("decoded a bomb"))
    bomb(tmp_path / "bomb.png", side)
    with pytest.raises(UneError, match="bomb.png.*pixels"):
        images.decode(tmp_path / "bomb.png")
    with pytest.raises(UneError, match="pixels"):
        images.decode((tmp_path / "bomb.png").read_bytes())


def test_the_pixel_limit_is_inclusive(tmp_path):
    picture(12, 8).save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png", max_pixels=96).size == (12, 8)
    with pytest.raises(UneError, match="a.png: 12 x 8 is more than the 95"):
        images.decode(tmp_path / "a.png", max_pixels=95)


def test_pillow_warnings_do_not_leak_even_between_threads(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")
    namespace = {"__name__": "PIL.Image", "warnings": warnings}
    exec("def warn(): warnings.warn('from pillow')", namespace)
    opener, gate = Image.open, threading.Barrier(2)

    def loud(*args, **kwargs):
        gate.wait(5)
        namespace["warn"]()
        gate.wait(5)
        return opener(*args, **kwargs)

    monkeypatch.setattr(Image, "open", loud)
    before, done = list(warnings.filters), []
    threads = [
        threading.Thread(target=lambda: done.append(images.decode(tmp_path / "a.png")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2  # a leaked warning is an error here, and would fail decode
    assert warnings.filters == before


def test_centre_crop_keeps_the_middle():
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = 200
    np.testing.assert_array_equal(images.centre_crop(Image.fromarray(wide), 4), 200)
    tall = Image.fromarray(wide.transpose(1, 0, 2))
    np.testing.assert_array_equal(images.centre_crop(tall, 4), 200)


def test_centre_crop_resizes_with_antialiasing():
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = images.centre_crop(Image.fromarray(checkers).convert("RGB"), 8)
    assert small.shape == (8, 8, 3) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - 127).max() <= 3


def test_centre_crop_needs_rgb():
    with pytest.raises(ValueError, match="RGB"):
        images.centre_crop(Image.new("L", (4, 4)), 4)


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert images.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(UneError, match="gone"):
        images.sha256(tmp_path / "gone")


def test_signed_and_back_is_the_identity_for_every_level():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    signed = images.to_signed(levels)
    assert signed.dtype == jnp.float32
    assert float(signed.min()) == -1 and float(signed.max()) == 1
    np.testing.assert_array_equal(images.from_signed(signed), levels)
    np.testing.assert_array_equal(jax.jit(images.from_signed)(signed), levels)


def test_from_signed_rounds_and_clips():
    step = 2 / 255
    signed = np.array([-1 + 0.4 * step, -1 + 0.6 * step, -7, 7], np.float32)
    assert images.from_signed(signed).tolist() == [0, 1, 0, 255]
