"""Diffusion models in pixels where commands walk: h-space and translation."""

import dataclasses
import json
import shutil
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_families

from ports import ddpm
from une_jax import directions, hspace, hspace_files, images, zoo
from une_jax.cli import family, inside, pictures
from une_jax.cli.diffusion import diffusion_of_view, load_diffusion
from une_jax.cli.names import resolve
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.schedule import Schedule

STEPS = 3
IMAGE = "img_align_celeba/000007.jpg"
LEARNED = dataclasses.replace(
    tiny_families.DDPM, out_channels=6, resnet_time_scale_shift="scale_shift"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny_families.write_ddpm(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Another one of its size, with a learned variance."""
    folder = tmp_path_factory.mktemp("models") / "learned"
    return tiny_families.write_ddpm(folder, seed=1, config=LEARNED)


@pytest.fixture(scope="module")
def opened(run, plain, learned, faces, tmp_path_factory):
    """A zoo of both."""
    out = tmp_path_factory.mktemp("zoo") / "zoo"
    ran = run(
        *("build", "--images", faces, "--generator", plain, learned),
        *("--steps", STEPS, "--out", out),
    )
    assert ran.code == 0, ran.err
    return zoo.open(out)


@pytest.fixture(scope="module", params=["plain", "learned"])
def fitted(request, run, opened, tmp_path_factory):
    """A view's model, its file of means, and what the command says."""
    file = tmp_path_factory.mktemp("h") / "means.safetensors"
    view = next(v for v in opened.manifest.views if v.name == request.param)
    source = request.getfixturevalue(request.param)
    ran = run(
        *("hspace", "fit", opened.path, "--view", view.name, "--generator", source),
        *("--attribute", "Smiling", "Male", "--out", file, "--json"),
    )
    assert ran.code == 0, ran.err
    return diffusion_of_view(view, str(source)), file, ran.json


@pytest.fixture
def translate(run, plain, learned, faces, tmp_path):
    """From one to the other, by other options as well."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("000001.jpg", "000002.jpg"):
        shutil.copy(faces / "img_align_celeba" / name, folder)

    def translated(*args, source=plain, target=learned):
        return run(
            *("translate", "--json", "--images", folder, "--from", source),
            *("--to", target, "--steps", STEPS, "--out", tmp_path / "out", *args),
        )

    return translated


def test_the_noise_is_that_of_the_zoo(opened, fitted, faces):
    model, _, _ = fitted
    pixels = [model.prepare(images.decode(faces / "img_align_celeba" / k)) for k in opened.keys[:3]]  # fmt: skip
    noise = model.compute(np.stack(pixels), np.arange(3)).arrays[model.name]
    np.testing.assert_allclose(noise, opened[model.name][:3], atol=2e-4)


def test_means_are_the_difference_of_the_networks_own_middles(opened, fitted):
    model, file, said = fitted
    train = opened.split("train")
    noise = jnp.moveaxis(jnp.asarray(opened[model.name][train], jnp.float32), 1, -1)
    scheduler = model.views[0].settings["scheduler"]
    schedule = Schedule.from_config(scheduler, steps=STEPS, eval_at="source")
    halves = (partial(model.unet.apply, method=m) for m in ("down", "up"))
    h = hspace.collect(hspace.Halves(*halves), model.unet.params, noise, schedule).h
    has = opened.attributes[train, opened.attribute_names.index("Smiling")]
    wanted = np.asarray(h[has].mean(0) - h[~has].mean(0))
    (moves,) = hspace_files.unpack(directions.load(file), ["Smiling"])
    np.testing.assert_allclose(moves, wanted, atol=2e-3 * np.abs(h).max())
    assert said["view"] == model.name and said["images"] == len(train)


@pytest.mark.parametrize("process", ["symmetric", "asymmetric"])
def test_an_edit_by_nothing_is_the_image_and_others_are_not(
    run, fitted, plain, learned, faces, tmp_path, process
):
    model, file, _ = fitted
    source = plain if model.name == "plain" else learned
    ran = run(
        *("hspace", "edit", "--directions", file, "--image", faces / IMAGE),
        *("--generator", source, "--attribute", "Smiling", "--strength", -40, 0, 40),
        *("--process", process, "--out", tmp_path / "out", "--json"),
    )
    assert ran.code == 0, ran.err
    made = [np.asarray(images.decode(path), int) for path in ran.json["images"]]
    pixels = model.prepare(images.decode(faces / IMAGE))[None]
    noise = model.compute(pixels, np.zeros(1, int)).arrays[model.name]
    again = family.family_of_view(model.views[0], str(source)).decode(model.name, noise)
    assert np.abs(made[1] - again[0]).max() <= 1
    assert np.abs(made[2] - made[1]).max() > 3
    assert np.abs(made[2] - made[0]).max() > 3


def test_directions_of_another_model_are_refused(
    run, fitted, plain, learned, faces, tmp_path
):
    model, file, _ = fitted
    other = learned if model.name == "plain" else plain
    how = ("--directions", file, "--image", faces / IMAGE, "--out", tmp_path / "out")
    ran = run("hspace", "edit", *how, "--generator", other, "--attribute", "Male")
    (error,) = ran.errors
    assert "holds other weights than the model that made view" in error
    ran = run("hspace", "edit", *how, "--attribute", "Male")
    (error,) = ran.errors
    assert error.endswith("(say where the model is with --generator)")
    own = plain if model.name == "plain" else learned
    words = ("--generator", own, "--attribute", "Male", "--prompt", "a hat")
    ran = run("hspace", "edit", *how, *words)
    assert ran.errors == [f"--prompt: view {model.name!r} is told no words"]


def test_principal_directions(run, opened, plain, tmp_path):
    ran = run(
        *("hspace", "fit", opened.path, "--view", "plain", "--generator", plain),
        *("--method", "pca", "--components", 2, "--out", tmp_path / "pca", "--json"),
    )
    assert ran.code == 0, ran.err
    parts = [row["part of variance"] for row in ran.json["table"]]
    assert len(parts) == 2 and 0 < parts[1] < parts[0] < 1


def test_the_view_that_is_taken(opened):
    """One that is named, else the only generator, else the only model in pixels."""
    of_pixels = opened.manifest.views[0]
    alike = {"g": ("generator", {}), "v": ("latent", {"family": "VAE"})}

    def of(*names):
        views = []
        for name in names:
            kind, config = alike.get(name[0], ("latent", of_pixels.config))
            how = {"name": name, "model_id": f"some/{name}", "kind": kind}
            views.append(dataclasses.replace(of_pixels, config=config, **how))
        manifest = dataclasses.replace(opened.manifest, views=tuple(views), shards=())
        return dataclasses.replace(opened, manifest=manifest)

    def taken(opened, name=None, source=None):
        return pictures.diffusion_view(opened, name, source).name

    assert taken(of("vae", "pixels")) == "pixels"
    assert taken(of("pixels", "gen")) == "gen"
    assert taken(of("pixels", "gen"), "pixels") == "pixels"
    assert taken(of("pixels", "gen"), None, "some/pixels") == "pixels"
    assert taken(of("pixels", "gen"), None, "a/folder") == "gen"
    with pytest.raises(UneError, match="views p1, p2: choose with --view"):
        taken(of("p1", "p2"))
    with pytest.raises(UneError, match="has no generator view"):
        taken(of("vae"))
    with pytest.raises(UneError, match="has no generator view"):
        pictures.generator_view(of("pixels"), None, None)


@pytest.mark.parametrize("code", ["dpm-encoder", "edit-friendly"])
def test_two_models_in_pixels_translate(translate, tmp_path, code):
    ran = translate("--code", code)
    assert ran.code == 0, ran.err
    # No VAE loses anything: the code alone gives the image back.
    assert ran.json["psnr"]["reconstruction"] > 50
    assert ran.json["psnr"]["translated"] < 40
    rows = json.loads((tmp_path / "out/translate.json").read_text())["translations"]
    made = images.decode(tmp_path / "out" / rows[0]["files"]["translated"])
    assert made.size == (16, 16)


def test_ddim_there_and_back_is_the_models_own_way(translate, plain, tmp_path):
    ran = translate("--code", "ddim", target=plain)
    assert ran.code == 0, ran.err
    found = family.load_family(resolve(str(plain)), Settings(steps=STEPS))
    given = [images.decode(tmp_path / "faces" / f"00000{i}.jpg") for i in (1, 2)]
    noise = found.compute(np.stack([found.prepare(x) for x in given]), np.arange(2))
    wanted = found.decode("plain", noise.arrays["plain"]).astype(int)
    for label in ("reconstruction", "translated"):
        files = [row["files"][label] for row in ran.json["translations"]]
        made = [np.asarray(images.decode(tmp_path / "out" / f), int) for f in files]
        assert np.abs(np.stack(made) - wanted).max() <= 1


def test_translations_that_cannot_be(translate, tiny, plain, tmp_path):
    def error(*args, **models):
        ran = translate(*args, **models)
        assert ran.code == 1 and not (tmp_path / "out").exists()
        (said,) = ran.errors
        return said

    mixed = "walks in pixels, tiny in latents: one's code is none of the other's"
    assert mixed in error(target=tiny)
    assert "tiny walks in latents, plain in pixels" in error(source=tiny, target=plain)
    wordless = "is a model in pixels: it is told no words and takes no guidance"
    assert f"plain {wordless}" in error("--prompt-from", "a face")
    assert f"learned {wordless}" in error("--guidance-to", 3)
    assert "--size 15 is not a multiple of 2" in error("--size", 15)


def test_models_and_settings_of_no_walk_are_refused(plain, tmp_path):
    model = resolve(str(plain))
    with pytest.raises(UneError, match="in pixels: it is inverted by ddim"):
        load_diffusion(model, Settings(method="exact"))
    labelled = dataclasses.replace(tiny_families.DDPM, num_class_embeds=4)
    folder = tiny_families.write_ddpm(tmp_path / "labelled", config=labelled)
    with pytest.raises(UneError, match="told a class with each image"):
        load_diffusion(resolve(str(folder)), Settings(steps=STEPS))
    assert ddpm.load(str(folder), subfolder="unet").config == labelled
    found = load_diffusion(model, Settings(steps=STEPS))
    with pytest.raises(UneError, match="it is told no words"):
        found.walk(
            found.walks.middles, np.zeros((1, 3, 16, 16), np.float32), prompts=["a hat"]
        )


def test_what_is_drawn_at_boosted_steps_is_the_same_for_all_places(opened, plain):
    view = next(v for v in opened.manifest.views if v.name == "plain")
    model = diffusion_of_view(view, str(plain))
    noise = np.asarray(opened["plain"][:2], np.float32)
    steps = model.walk_params["steps"]
    late = int(steps.sampling.t[-2])
    moves = np.zeros((1, *inside.middles(model, noise).shape[1:]), np.float32)
    made = inside.edit(
        model,
        noise,
        moves,
        np.ones((2, 2, 1), np.float32),
        hspace.phases(steps, t_edit=late + 1, t_boost=late + 1),
        symmetric=True,
    )
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    still = inside.edit(
        model,
        noise,
        moves,
        np.ones((2, 1, 1), np.float32),
        hspace.phases(steps),
        symmetric=True,
    )
    assert np.abs(made[:, 0].astype(int) - still[:, 0]).max() > 3
