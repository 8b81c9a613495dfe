"""``une-jax hspace``: a zoo's directions in the bottleneck, and an image moved along."""

import numpy as np
import pytest

from une_jax import directions, hspace, hspace_files, images, zoo
from une_jax.cli import inside
from une_jax.cli.generator import generator_of_view

IMAGE = "img_align_celeba/000007.jpg"


@pytest.fixture(scope="module")
def fitted(run, built, tiny, tmp_path_factory):
    """The file of means, and what the command says."""
    file = tmp_path_factory.mktemp("h") / "means.safetensors"
    ran = run("hspace", "fit", built, "--generator", tiny, "--out", file, "--json")
    assert ran.code == 0, ran.err
    return file, ran.json


@pytest.fixture(scope="module")
def generator(built, tiny):
    return generator_of_view(zoo.open(built).manifest.views[0], str(tiny))


def edit(run, tiny, file, faces, out, *args):
    ran = run(
        *("hspace", "edit", "--directions", file, "--image", faces / IMAGE),
        *("--generator", tiny, "--out", out, *args, "--json"),
    )
    assert ran.code == 0, ran.err
    return ran.json, [images.decode(path) for path in ran.json["images"]]


def test_h_is_what_the_networks_middle_holds(generator, built):
    """At the first step it is the port's own tap at the stored noise."""
    opened = zoo.open(built)
    noise = np.asarray(opened[generator.name][:3], np.float32)
    h = inside.middles(generator, noise)
    schedule = generator.walk_params["steps"]
    assert h.shape[:2] == (3, len(schedule.sampling.t))
    x, unet = np.moveaxis(noise, 1, -1), generator.sd.unet
    t = np.full(3, schedule.sampling.t[0])
    _, taps = unet.apply(
        unet.params, x, t, generator.walk_params["cond"], taps=("mid",)
    )
    np.testing.assert_allclose(h[:, 0], taps["mid"], atol=2e-5)


def test_means_are_the_difference_of_both_sides(fitted, generator, built):
    file, said = fitted
    found, opened = directions.load(file), zoo.open(built)
    train = opened.split("train")
    h = inside.middles(generator, np.asarray(opened[generator.name][train], np.float32))
    name = found.names[0]
    has = opened.attributes[train, opened.attribute_names.index(name)]
    wanted = h[has].mean(0) - h[~has].mean(0)
    (moves,) = hspace_files.unpack(found, [name])
    np.testing.assert_allclose(moves, wanted, atol=2e-3 * np.abs(h).max())
    onto = np.tensordot(h, moves, [range(1, 5), range(4)]) / np.linalg.norm(moves)
    assert found.spread[0] == pytest.approx(onto.std(), rel=1e-2)
    row = next(r for r in said["table"] if r["direction"] == name)
    assert row["length"] == pytest.approx(float(np.linalg.norm(moves)), rel=1e-4)
    assert found.view.settings["space"] == "h" and said["images"] == len(train)


def test_strength_0_is_the_reconstruction_and_others_are_not(
    run, tiny, fitted, generator, faces, tmp_path
):
    name = directions.load(fitted[0]).names[0]
    args = ("--attribute", name, "--strength", -40, 0, 40)
    for process in ("symmetric", "asymmetric"):
        said, made = edit(
            run, tiny, fitted[0], faces, tmp_path / process, *args, "--process", process
        )
        assert said["process"] == process and len(made) == 3
        pixels = generator.prepare(images.decode(faces / IMAGE))[None]
        noise = generator.compute(pixels, np.zeros(1, int)).arrays[generator.name]
        plain = generator.decode(np.asarray(noise, np.float32))[0].astype(int)
        pixels = [np.asarray(image).astype(int) for image in made]
        assert np.abs(pixels[1] - plain).max() <= 1
        assert np.abs(pixels[2] - plain).max() > 3
        assert np.abs(pixels[2] - pixels[0]).max() > 3
        assert (tmp_path / process / "grid.png").exists()


def test_no_step_left_to_edit_is_refused(run, tiny, fitted, faces, tmp_path):
    out = tmp_path / "late"
    ran = run(
        *("hspace", "edit", "--directions", fitted[0], "--image", faces / IMAGE),
        *("--generator", tiny, "--out", out, "--attribute"),
        *(directions.load(fitted[0]).names[0], "--t-edit", 5000),
    )
    (error,) = ran.errors
    assert "--t-edit 5000: no step is left to edit; the timesteps are" in error
    assert ran.code == 1 and not out.exists()


def test_kept_attributes_and_balance(run, built, tiny, fitted, tmp_path):
    names = directions.load(fitted[0]).names
    out = tmp_path / "kept.safetensors"
    ran = run(
        *("hspace", "fit", built, "--generator", tiny, "--out", out),
        *("--attribute", names[0], "--keep", names[1]),
    )
    assert ran.code == 0, ran.err
    kept, plain = directions.load(out), directions.load(fitted[0])
    assert abs(kept.moves[0] @ plain.moves[1]) < 1e-4
    assert abs(plain.moves[0] @ plain.moves[1]) > 1e-3
    assert kept.method["keep"] == [names[1]]


def test_balance_takes_differences_within_both_groups(
    run, built, tiny, generator, tmp_path
):
    out = tmp_path / "balanced.safetensors"
    ran = run(
        *("hspace", "fit", built, "--generator", tiny, "--out", out),
        *("--balance", "Male", "--attribute", "Smiling"),
    )
    assert ran.code == 0, ran.err
    opened = zoo.open(built)
    train, names = opened.split("train"), opened.attribute_names
    h = inside.middles(generator, np.asarray(opened[generator.name][train], np.float32))
    male, smile = (
        opened.attributes[train, names.index(n)] for n in ("Male", "Smiling")
    )
    wanted = sum(
        (h[smile & group].mean(0) - h[~smile & group].mean(0)) / 2
        for group in (male, ~male)
    )
    (moves,) = hspace_files.unpack(directions.load(out))
    np.testing.assert_allclose(moves, wanted, atol=2e-3 * np.abs(h).max())


def test_principal_directions(run, built, tiny, generator, faces, tmp_path):
    out = tmp_path / "pca.safetensors"
    ran = run(
        *("hspace", "fit", built, "--generator", tiny, "--out", out),
        *("--method", "pca", "--components", 3, "--json"),
    )
    assert ran.code == 0, ran.err
    parts = [row["part of variance"] for row in ran.json["table"]]
    assert parts == sorted(parts, reverse=True)
    opened = zoo.open(built)
    noise = np.asarray(opened[generator.name][opened.split("train")], np.float32)
    h = inside.middles(generator, noise)
    rows = np.moveaxis(h - h.mean(0), 1, 0).reshape(h.shape[1], len(h), -1)
    variances = np.linalg.svd(rows, compute_uv=False) ** 2
    wanted = variances.sum(0) / variances.sum()
    np.testing.assert_allclose(parts, wanted[:3], rtol=1e-2)
    assert directions.load(out).method["explained"] == pytest.approx(
        wanted[:3].sum(), rel=1e-2
    )
    assert directions.load(out).names == ("pc1", "pc2", "pc3")
    _, made = edit(
        run, tiny, out, faces, tmp_path / "e", "--attribute", "pc1", "--strength", -9, 9
    )
    assert np.abs(np.asarray(made[0], int) - np.asarray(made[1], int)).max() > 0


BAD = {
    "pca knows no labels": ("--method", "pca", "--attribute", "Male"),
    "--limit is 1; use 2 or more": ("--limit", "1"),
    "--components is 0; use 1": ("--method", "pca", "--components", "0"),
    "--keep Male would undo": ("--attribute", "Male", "--keep", "Male"),
    "--balance Male: it is asked": ("--attribute", "Male", "--balance", "Male"),
    "did you mean Smiling": ("--attribute", "Smilling"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_wishes_are_refused_before_any_work(run, built, tmp_path, message):
    out = tmp_path / "h.safetensors"
    ran = run("hspace", "fit", built, "--out", out, *BAD[message])
    assert ran.code == 1 and not out.exists()
    (error,) = ran.errors
    assert message in error


def test_each_space_refuses_the_others_directions(
    run, fitted, built, tiny, faces, tmp_path
):
    image, out = faces / IMAGE, tmp_path / "out"
    how = ("--image", image, "--out", out, "--attribute", "Male")
    (error,) = run("edit", "--directions", fitted[0], *how).errors
    assert "holds directions of h-space: use `une-jax hspace edit`" in error
    file = tmp_path / "noise.safetensors"
    ran = run("directions", built, "--out", file, "--attribute", "Male")
    assert ran.code == 0, ran.err
    (error,) = run("hspace", "edit", "--directions", file, *how).errors
    assert "holds directions of noise: use `une-jax edit`" in error
    assert not out.exists()


def test_middles_lead_to_the_images_that_ddim_samples(generator, built):
    """`inside.edit` by nothing is `decode`."""
    noise = np.asarray(zoo.open(built)[generator.name][:2], np.float32)
    h = inside.middles(generator, noise)
    schedule = generator.walk_params["steps"]
    made = inside.edit(
        generator,
        noise,
        np.zeros((1, *h.shape[1:]), np.float32),
        np.ones((2, 1, 1), np.float32),
        hspace.phases(schedule),
        symmetric=True,
    )
    plain = generator.decode(noise).astype(int)
    assert np.abs(made[:, 0].astype(int) - plain).max() <= 1
