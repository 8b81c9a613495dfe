"""Where pictures come from: rows and uploads, never a path or an address."""

import numpy as np
import pytest
from PIL import Image
from tiny import KEYS, NOISE, SIZE, N, make_images, make_studio, make_zoo, painted, png

from une_jax.app import pictures as pictures_module
from une_jax.errors import UneError


@pytest.fixture
def taken(opened, patterns):
    studio, coder = make_studio(opened, patterns)
    return studio.pictures, coder


def test_a_row_is_its_file_and_its_stored_noise(taken):
    pictures, coder = taken
    picture = pictures.row("sd", 7)
    assert (picture.id, picture.title) == (("row", 7), KEYS[7])
    np.testing.assert_array_equal(picture.pixels, painted(NOISE[7:8])[0])
    np.testing.assert_array_equal(picture.back, painted(NOISE[7:8])[0])
    np.testing.assert_array_equal(picture.origin["sd"].ravel(), NOISE[7])
    assert picture.psnr == 120 and coder.inverted == 0
    assert pictures.row("sd", 7) is picture  # kept


def test_without_the_files_a_row_is_decoded_from_its_noise(opened):
    pictures = make_studio(opened)[0].pictures
    picture = pictures.row("sd", 3)
    assert picture.pixels is None and np.isnan(picture.psnr)
    np.testing.assert_array_equal(pictures.look("sd", 3), painted(NOISE[3:4])[0])


@pytest.mark.parametrize("row", [-1, N, 10**9])
def test_what_is_no_row_is_refused(taken, row):
    with pytest.raises(
        UneError, match=f"there is no row .*; the zoo's are 0 to {N - 1}"
    ):
        taken[0].row("sd", row)


def test_a_view_that_is_not_there_is_refused(taken):
    with pytest.raises(UneError, match="no generator view 'clip'; there is sd"):
        taken[0].row("clip", 0)


def test_a_file_that_has_changed_since_or_is_gone_is_not_shown(opened, tmp_path):
    folder = make_images(tmp_path / "patterns")
    (folder / KEYS[0]).write_bytes(png(np.zeros((SIZE, SIZE, 3), np.uint8)))
    pictures = make_studio(opened, folder)[0].pictures
    (folder / KEYS[1]).rename(folder / "elsewhere.bin")
    for row in (0, 1):
        assert pictures.row("sd", row).pixels is None
        with pytest.raises(UneError):
            pictures.originals.image(row)
    assert pictures.row("sd", 2).pixels is not None


def test_a_key_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    folder = make_images(tmp_path / "patterns")
    secret = painted(NOISE[:1])[0]  # even with the very bytes that the zoo expects
    (tmp_path / "secret.png").write_bytes(png(secret))
    keys = ["../secret.png", *KEYS[1:]]
    opened = make_zoo(tmp_path / "zoo", keys=keys)
    pictures = make_studio(opened, folder)[0].pictures
    with pytest.raises(UneError, match=r"\.\./secret\.png: not among the images"):
        pictures.originals.image(0)


def test_an_upload_is_inverted_once_for_each_view(taken):
    pictures, coder = taken
    data = png(painted(NOISE[5:6])[0])
    name = pictures.admit(data)
    picture = pictures.upload("sd", name)
    assert picture.id == ("upload", name) and coder.inverted == 1
    np.testing.assert_allclose(picture.origin["sd"].ravel(), NOISE[5], atol=0.05)
    assert picture.psnr > 40
    assert (
        pictures.upload("sd", pictures.admit(data)) is picture and coder.inverted == 1
    )


def test_an_upload_may_have_any_size_and_shape(taken):
    wide = Image.new("RGB", (300, 40), "red")
    name = taken[0].admit(png(np.asarray(wide)))
    assert taken[0].upload("sd", name).pixels.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4"],
)
def test_what_is_no_image_is_refused_with_what_would_do(taken, data):
    with pytest.raises(UneError, match="does not open as an image .*JPEG, PNG"):
        taken[0].admit(data)
    assert taken[1].inverted == 0


def test_half_an_image_is_refused(taken):
    data = png(painted(NOISE[:1])[0])
    with pytest.raises(UneError, match="does not open as an image"):
        taken[0].admit(data[: len(data) // 2])


def test_too_many_bytes_or_pixels_are_refused_before_decoding(taken, monkeypatch):
    monkeypatch.setattr(pictures_module, "MAX_BYTES", 2**20)
    with pytest.raises(UneError, match="2 MB is more than the 1 MB allowed"):
        taken[0].admit(bytes(2 * 2**20))
    monkeypatch.setattr(pictures_module, "MAX_PIXELS", 1000)
    with pytest.raises(UneError, match="64 x 32 is more than the 1,000 pixels"):
        taken[0].admit(png(np.zeros((32, 64, 3), np.uint8)))


def test_only_the_last_uploads_are_kept(taken):
    pictures = taken[0]
    names = [
        pictures.admit(png(np.full((4, 4, 3), i, np.uint8)))
        for i in range(pictures_module.UPLOADS + 1)
    ]
    with pytest.raises(UneError, match="not kept any more: upload it again"):
        pictures.upload("sd", names[0])
    pictures.upload("sd", names[-1])
    with pytest.raises(UneError, match="upload it again"):
        pictures.upload("sd", "/etc/passwd")


def test_thumbnails_are_small_and_fall_back_to_the_noise_one_by_one(opened, tmp_path):
    folder = make_images(tmp_path / "patterns")
    (folder / KEYS[1]).rename(folder / "elsewhere.bin")
    studio, coder = make_studio(opened, folder)
    small = studio.pictures.thumbnails("sd", [0, 1, 2])
    assert small.shape == (3, 96, 96, 3) and small.dtype == np.uint8
    assert len(coder.edited) == 1 and len(coder.edited[0][0]) == 1
    whole = make_studio(opened)[0].pictures.thumbnails("sd", [0, 1, 2])
    np.testing.assert_array_equal(small, whole)  # painted without loss
    again = studio.pictures.thumbnails("sd", range(3))
    np.testing.assert_array_equal(small, again)
    assert len(coder.edited) == 1  # a page is decoded once


def test_images_with_prompts_of_their_own_bring_them_along(tmp_path):
    opened = make_zoo(tmp_path / "zoo", prompts=True)
    studio, coder = make_studio(opened)
    assert studio.pictures.row("sd", 4).prompts == ["pattern 4"]
    name = studio.pictures.admit(png(painted(NOISE[5:6])[0]))
    assert studio.pictures.upload("sd", name, "a cat").prompts == ["a cat"]
    assert coder.edited[-1][2] == ["a cat"]


def test_where_all_share_a_prompt_an_upload_has_none(taken):
    name = taken[0].admit(png(painted(NOISE[5:6])[0]))
    with pytest.raises(UneError, match="one prompt for all"):
        taken[0].upload("sd", name, "a cat")
