"""What a build stores, by hand and by formula, and that nothing else changes it."""

import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_zoo import contents

from ports import clip, preprocess, stable_diffusion, vae
from une_jax import attributes, ddim, images, zoo
from une_jax.miniature import factors
from une_jax.schedule import Schedule

VIEWS = ("tiny", "tiny.x0", "tiny.forward", "eyes")
# Of latents of unit size: float32 rounding of three UNet calls in another batch.
ROUNDING = 2e-5


def test_rows_are_the_images_in_the_order_of_their_keys(built, faces):
    opened = zoo.open(built)
    folder = faces / "img_align_celeba"
    keys = images.list_images(folder)
    assert opened.keys == keys == sorted(keys)
    assert opened.complete and zoo.verify(built) == []
    digests = [hashlib.sha256((folder / k).read_bytes()).hexdigest() for k in keys]
    assert opened.rows.column("sha256").to_pylist() == digests
    assert opened.rows.column("split").to_pylist() == zoo.paper_split(24).tolist()
    table = attributes.read(faces / "list_attr_celeba.txt")
    assert opened.attribute_names == factors.NAMES
    np.testing.assert_array_equal(opened.attributes, table.values)


def test_views_are_stored_channels_first_with_their_residuals(built):
    opened = zoo.open(built)
    assert opened.views == VIEWS
    shapes = [opened[view].shape for view in VIEWS]
    assert shapes == [(24, 4, 8, 8)] * 3 + [(24, 8)]
    assert {opened[view].dtype for view in VIEWS} == {np.dtype(np.float32)}
    kinds = [view.kind for view in opened.manifest.views]
    assert kinds == ["generator", "control", "control", "encoder"]
    residual = opened.rows.column("residual/tiny").to_numpy()
    assert np.isfinite(residual).all() and (residual > 0).all()


def test_the_manifest_says_how_the_numbers_were_made(built, tiny, eyes):
    noise, _, forward, seen = zoo.open(built).manifest.views
    how = noise.settings
    scheduler = json.loads((tiny / "scheduler/scheduler_config.json").read_text())
    assert how["scheduler"] == scheduler
    assert (how["steps"], how["eval_at"], how["prompt"]) == (3, "source", "")
    assert how["terminal_t"] == forward.settings["terminal_t"] == 667
    assert (how["dtype"], noise.config["size"]) == ("float32", 16)
    files = [
        tiny / "vae/diffusion_pytorch_model.safetensors",
        tiny / "text_encoder/model.safetensors",
        tiny / "unet/diffusion_pytorch_model.safetensors",
    ]
    weights = b"".join(file.read_bytes() for file in files)
    assert noise.weights_sha256 == hashlib.sha256(weights).hexdigest()
    weights = (eyes / "model.safetensors").read_bytes()
    assert seen.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert (noise.model_id, seen.model_id) == ("tiny", "eyes")


def test_no_path_of_this_machine_is_stored(built, tmp_path_factory):
    place = str(tmp_path_factory.getbasetemp()).encode()
    assert not any(place in data for data in contents(built).values())


def test_the_numbers_are_those_of_the_library_called_by_hand(built, faces, tiny, eyes):
    """VAE mode, scaled; DDIM inversion under the empty prompt; CLIP's image feature."""
    opened, row = zoo.open(built), 9
    image = images.decode(faces / "img_align_celeba" / opened.keys[row])
    sd = stable_diffusion.load(str(tiny))
    config = json.loads((tiny / "scheduler/scheduler_config.json").read_text())
    schedule = Schedule.from_config(config, steps=3, eval_at="source")
    cond = stable_diffusion.encode_prompts(sd, [""])

    @jax.jit
    def invert(params, pixels):
        mode = sd.vae.apply(params["vae"], pixels, method="encode")
        x0 = vae.scale(sd.vae.config, mode)
        unet = params["unet"]
        return x0, *ddim.invert_with_residual(sd.unet.apply, unet, x0, schedule, cond)

    pixels = images.to_signed(images.centre_crop(image, 16))[None]
    with jax.default_matmul_precision("float32"):
        params = {"vae": sd.vae.params, "unet": sd.unet.params}
        x0, x_T, residual = invert(params, pixels)
        port = clip.load(str(eyes))
        prepared = jnp.asarray(preprocess.load(str(eyes))(image))[None]
        embed = jax.jit(port.apply, static_argnames="method")
        feature = embed(port.params, prepared, method="encode_image")

    def close(got, wanted):
        np.testing.assert_allclose(got, wanted, atol=ROUNDING)

    close(opened["tiny.x0"][row], x0[0].transpose(2, 0, 1))
    close(opened["tiny"][row], x_T[0].transpose(2, 0, 1))
    close(opened["eyes"][row], feature[0])
    close(opened.rows.column("residual/tiny")[row].as_py(), residual[0])


def test_forward_noised_twins_are_clean_latents_under_fresh_noise(built):
    """sqrt(alpha) x0 + sqrt(1 - alpha) noise, at the alpha where inversion ends."""
    opened = zoo.open(built)
    x0, forward = np.asarray(opened["tiny.x0"]), np.asarray(opened["tiny.forward"])
    config = opened.manifest.views[0].settings["scheduler"]
    betas = np.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000)
    alpha = np.cumprod(1 - betas**2)[667]
    noise = (forward - np.sqrt(alpha) * x0) / np.sqrt(1 - alpha)

    error = 1 / np.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error
    assert abs(noise.std() - 1) < 4 * error
    assert abs(np.corrcoef(noise.ravel(), x0.ravel())[0, 1]) < 4 * error
    between = np.corrcoef(noise.reshape(24, -1))[np.triu_indices(24, 1)]
    assert abs(between).max() < 5 / np.sqrt(256)  # each row has its own

    key = jax.random.key(opened.manifest.views[2].settings["seed"])
    keys = [jax.random.fold_in(key, row) for row in range(24)]
    drawn = np.stack([jax.random.normal(key, (8, 8, 4)) for key in keys])
    np.testing.assert_allclose(noise, drawn.transpose(0, 3, 1, 2), atol=1e-5)


def test_batch_size_changes_no_more_than_rounding(run, build_args, built, tmp_path):
    more = ("--batch-size", 4, "--limit", 8)
    ran = run(*build_args, *more, "--out", tmp_path / "zoo", "--json")
    assert ran.json == {
        "zoo": str(tmp_path / "zoo"),
        "ok": 8,
        "failed": 0,
        "skipped": 0,
        "missing": 0,
        "failures": [],
        "duplicates": 0,
    }
    small, big = zoo.open(tmp_path / "zoo"), zoo.open(built)
    for view in VIEWS:
        np.testing.assert_allclose(small[view][:], big[view][:8], atol=ROUNDING)


def test_neighbours_change_no_bit(run, build_args, built, faces, tmp_path):
    """Not those in the same batch, nor those that fail, nor how many there are."""
    folder = tmp_path / "images"
    folder.mkdir()
    files = sorted((faces / "img_align_celeba").iterdir())
    for i in range(6):
        shutil.copy(files[i if i in (1, 4) else 10 + i], folder / files[i].name)
    (folder / files[3].name).write_bytes(b"no image")
    args = list(build_args)
    args[args.index("--images") + 1] = folder
    assert run(*args, "--out", tmp_path / "zoo", "--limit", 6).code == 0
    others, whole = zoo.open(tmp_path / "zoo"), zoo.open(built)
    assert len(others.keys) == 5
    for view in VIEWS:
        np.testing.assert_array_equal(others[view][[1, 3]], whole[view][[1, 4]])


def test_bfloat16_is_stored_as_float16_and_recorded(run, build_args, built, tmp_path):
    more = ("--dtype", "bfloat16", "--limit", 8)
    assert run(*build_args, *more, "--out", tmp_path / "zoo").code == 0
    half, single = zoo.open(tmp_path / "zoo"), zoo.open(built)
    for view in half.manifest.views:
        assert half[view.name].dtype == np.float16
        error = half[view.name][:].astype(np.float32) - single[view.name][:8]
        bound = 0.15 if view.kind != "control" else 1e-3  # the VAE stays float32
        assert 0 < np.abs(error).max() < bound
    assert half.manifest.views[0].settings["dtype"] == "bfloat16"


def test_fixed_points_are_what_sampling_undoes(run, build_args, built, tiny, tmp_path):
    """At eval_at "target", where sampling has a step for every step of inversion."""
    from une_jax.cli.generator import generator_of_view

    misses = {}
    for method in ("ddim", "fixed-point"):
        out = tmp_path / method
        how = ("--method", method, "--eval-at", "target", "--limit", 8, "--steps", 50)
        assert run(*build_args, *how, "--out", out).code == 0
        opened = zoo.open(out)
        view = opened.manifest.views[0]
        assert view.settings.get("method", "ddim") == method
        again = generator_of_view(view, str(tiny)).denoise(opened["tiny"][:])
        misses[method] = np.square(again - opened["tiny.x0"][:]).mean()
    assert misses["fixed-point"] < misses["ddim"] / 100
    assert (opened.rows.column("residual/tiny").to_numpy() < 1e-4).all()
    ran = run(
        *build_args, "--limit", 8, "--eval-at", "target", "--steps", 50, "--out", out
    )
    assert ran.code == 1 and "method" in ran.err  # never mixed into one zoo


@pytest.mark.parametrize("spell", ["joined", "repeated"])
def test_several_generators_are_named_once_or_each(run, tiny, faces, tmp_path, spell):
    both = (f"a={tiny}", f"b={tiny}")
    options = ("--generator", *both) if spell == "joined" else tuple(
        part for model in both for part in ("--generator", model)
    )  # fmt: skip
    folder = faces / "img_align_celeba"
    ran = run("build", "--images", folder, *options, "--out", tmp_path, "--dry-run", "--json")  # fmt: skip
    assert list(ran.json["bytes_per_row"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--steps", 4, "views.tiny.settings.steps: 3 in the zoo, 4 asked"),
        ("--prompt", "a hat", 'views.tiny.settings.prompt: "" in the zoo, "a hat"'),
        ("--limit", 20, "row_count: 24 in the zoo, 20 asked"),
    ],
)
def test_a_zoo_of_other_settings_is_refused_and_untouched(
    run, build_args, built, option, value, field
):
    before = contents(built)
    ran = run(*build_args, option, value, "--out", built)
    assert ran.code == 1
    (error,) = ran.errors
    assert "has other settings" in error and field in error
    assert contents(built) == before
