"""A zoo made by other choices than the usual is decoded by the same choices.

Exact inversion under guidance, with a prompt for each image: what the report shows and
what an edit starts from must come from all that the zoo holds of an image.
"""

import csv

import numpy as np
import pytest

from une_jax import images, zoo
from une_jax.cli.generator import generator_of_view

WORDS = ("a hat", "", "a beard")


@pytest.fixture(scope="module")
def exact(run, build_args, faces, tmp_path_factory):
    """A NoiseZoo of 24 faces, built by exact inversion."""
    folder = tmp_path_factory.mktemp("exact")
    keys = images.list_images(faces / "img_align_celeba")
    with open(folder / "prompts.csv", "w", newline="") as file:
        lines = [(key, WORDS[i % 3]) for i, key in enumerate(keys)]
        csv.writer(file).writerows([("key", "prompt"), *lines])
    ran = run(
        *(*build_args, "--out", folder / "zoo", "--method", "exact"),
        *("--prompts", folder / "prompts.csv", "--guidance", 2, "--negative", "wig"),
        *("--round-trip", "pixels"),
    )
    assert ran.code == 0, ran.err
    return folder / "zoo"


def test_each_row_says_its_prompt_and_how_well_it_comes_back(exact):
    opened = zoo.open(exact)
    assert opened.views[:2] == ("tiny", "tiny.before") and zoo.verify(exact) == []
    assert opened.rows.column("prompt").to_pylist() == [*WORDS] * 8
    residual, missed, psnr = (
        opened.rows.column(f"{kind}/tiny").to_numpy()
        for kind in ("residual", "round_trip", "psnr")
    )
    assert 0 < residual.max() < 1e-6 and 0 < missed.max() < 1e-5
    assert np.isfinite(psnr).all() and psnr.min() > 0


def test_a_stored_row_is_decoded_with_its_pair_its_prompt_and_its_guidance(exact, tiny):
    opened = zoo.open(exact)
    g = generator_of_view(opened["tiny"].view, str(tiny), rows=8)
    origin = {name: opened[name][8:16] for name in g.decodes_from}
    said = opened.rows.column("prompt").to_pylist()[8:16]
    x0 = opened["tiny.x0"][8:16]
    own = g.denoise(origin["tiny"], prompts=said, origin=origin)
    assert np.abs(own - x0).max() < 5e-5  # the batch is another than the build's
    alone = g.denoise(origin["tiny"], prompts=said)
    others = g.denoise(origin["tiny"], prompts=said[::-1], origin=origin)
    assert np.abs(alone - x0).max() > 1e-2 and np.abs(others - x0).max() > 1e-2


def test_the_report_shows_what_the_zoo_gives_back(run, exact, tiny, faces, tmp_path):
    folder = faces / "img_align_celeba"
    ran = run(
        *("report", exact, "--generator", tiny, "--out", tmp_path / "report"),
        *("--images", folder, "--only", "round-trip", "samples", "--json"),
    )
    assert ran.code == 0, ran.err
    # The pair gives the latents back to rounding: what is lost, the VAE had lost.
    through, again = (ran.json[f"tiny {k}_psnr_db"] for k in ("vae", "round_trip"))
    assert abs(through - again) < 0.01
    page = (tmp_path / "report/index.html").read_text()
    assert "tiny, 3 BDIA steps: held-out images" in page and "at guidance 2" in page


def test_an_edit_of_strength_0_is_the_image_through_the_vae(
    run, exact, tiny, faces, tmp_path
):
    file = faces / "img_align_celeba/000007.jpg"
    ran = run(
        *("edit", "--zoo", exact, "--generator", tiny, "--out", tmp_path / "out"),
        *("--image", file, "--prompt", "a hat", "--attribute", "Smiling"),
        *("--strength", 0, 3, "--json"),
    )
    assert ran.code == 0, ran.err
    still, moved = (np.asarray(images.decode(f), int) for f in ran.json["images"])
    g = generator_of_view(zoo.open(exact)["tiny"].view, str(tiny), rows=1)
    coded = g.autoencode(g.prepare(images.decode(file))[None])[0]
    assert np.abs(still - coded).max() <= 1 < np.abs(moved - coded).max()


def test_a_prompt_has_no_place_where_all_images_share_one(
    run, built, tiny, faces, tmp_path
):
    ran = run(
        *("edit", "--zoo", built, "--generator", tiny, "--out", tmp_path / "out"),
        *("--image", faces / "img_align_celeba/000007.jpg", "--prompt", "a hat"),
        *("--attribute", "Smiling"),
    )
    assert ran.code == 1
    assert ran.errors == ["--prompt: view 'tiny' has one prompt for all images"]
