"""Generative models of other families in a build: what is stored, and the way back."""

import numpy as np
import pytest
import tiny_families
from PIL import Image

from ports import ddpm, glow, resnet_vae, stylegan2, vq
from une_jax import ddim, images, zoo
from une_jax.cli import family, names
from une_jax.cli.settings import Settings
from une_jax.errors import UneError
from une_jax.schedule import Schedule

STEPS, SEED = 3, 7
PIXELS = 3 * tiny_families.EDGE**2
SHAPES = {
    "vae": (8,),
    "vae.sample": (8,),
    "vq": (3, 8, 8),
    "flow": (PIXELS,),
    "flow.eps": (PIXELS,),
    "ddpm": (3, 16, 16),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    return {name: write(folder / name) for name, write in tiny_families.WRITERS.items()}


@pytest.fixture(scope="module")
def specs(models):
    return [f"{name}={path}" for name, path in models.items() if name != "gan"]


@pytest.fixture(scope="module")
def zoo_of_all(run, specs, faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo") / "zoo"
    args = ("--steps", STEPS, "--batch-size", 8, "--seed", SEED)
    ran = run("build", "--images", faces, "--generator", *specs, *args, "--out", out)
    assert ran.code == 0, ran.err
    return zoo.open(out)


@pytest.fixture(scope="module")
def synthetic(run, models, tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "images"
    ran = run("synthesize", "--generator", models["gan"], "--n", 9, "--seed", SEED, "--out", out)  # fmt: skip
    assert ran.code == 0, ran.err
    return out


@pytest.fixture(scope="module")
def pixels(zoo_of_all, faces):
    folder = faces / "img_align_celeba"
    found = [images.centre_crop(images.decode(folder / k), 16) for k in zoo_of_all.keys]
    return images.to_signed(np.stack(found))


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=2e-4)


def test_every_family_has_its_views(zoo_of_all):
    assert zoo.verify(zoo_of_all.path) == []
    views = {v.name: v for v in zoo_of_all.manifest.views}
    assert {n: v.shape for n, v in views.items()} == SHAPES
    assert {v.kind for v in views.values()} == {"latent"}
    words = [views[n].config["family"] for n in ("vae", "vq", "flow", "ddpm")]
    assert words == ["VAE", "VQVAE", "flow", "pixel diffusion"]
    assert views["ddpm"].settings["steps"] == STEPS
    assert (
        views["flow.eps"].settings["what"] == "z of all levels, whitened by its prior"
    )
    assert "residual/ddpm" not in zoo_of_all.rows.column_names


def test_latents_are_those_of_the_ports_called_by_hand(zoo_of_all, models, pixels):
    port = vq.load(str(models["vq"]))
    z = port.apply(port.params, pixels, method="encode")
    close(zoo_of_all["vq"][:], np.moveaxis(z, -1, 1))

    port = resnet_vae.load(str(models["vae"]))
    mean, logvar = port.apply(port.params, pixels, method="moments")
    close(zoo_of_all["vae"][:], mean)
    drawn = (zoo_of_all["vae.sample"][:] - mean) / np.exp(logvar / 2)
    assert abs(drawn.mean()) < 0.25 and 0.8 < drawn.std() < 1.2

    port = glow.load(str(models["flow"]))
    z = port.apply(port.params, pixels, method="encode")
    close(zoo_of_all["flow"][:], z)
    close(zoo_of_all["flow.eps"][:], port.apply(port.params, z, method="whiten"))

    loaded = ddpm.load_pipeline(str(models["ddpm"]))
    steps = Schedule.from_config(loaded.scheduler, steps=STEPS, eval_at="source")
    x_T = ddim.invert(loaded.unet.apply, loaded.unet.params, pixels, steps)
    close(zoo_of_all["ddpm"][:], np.moveaxis(x_T, -1, 1))


def test_a_flow_gives_its_images_back(zoo_of_all, pixels, models):
    for name in ("flow", "flow.eps"):
        view = next(v for v in zoo_of_all.manifest.views if v.name == name)
        found = family.family_of_view(view, str(models["flow"]))
        again = found.decode(name, zoo_of_all[name][:5])
        level = np.asarray(images.from_signed(pixels[:5])).astype(int)
        assert np.abs(again - level).max() <= 1


def test_a_view_finds_the_model_that_made_it(zoo_of_all, models, tmp_path):
    view = next(v for v in zoo_of_all.manifest.views if v.name == "vae.sample")
    found = family.family_of_view(view, str(models["vae"]))
    assert found.seed == SEED and set(found.latents) == {"vae", "vae.sample"}
    other = tiny_families.write_vae(tmp_path / "vae", seed=5)
    with pytest.raises(UneError, match="holds other weights than the model that made"):
        family.family_of_view(view, str(other))
    with pytest.raises(UneError, match=r"view 'vae.sample': .*neither a folder nor"):
        family.family_of_view(view)


def test_a_draw_is_the_rows_own_whatever_stands_beside_it(run, zoo_of_all, models, faces, tmp_path):  # fmt: skip
    args = ("--seed", SEED, "--batch-size", 3, "--limit", 5)
    ran = run("build", "--images", faces, "--generator", f"vae={models['vae']}", *args, "--out", tmp_path)  # fmt: skip
    assert ran.code == 0, ran.err
    close(zoo.open(tmp_path)["vae.sample"][:], zoo_of_all["vae.sample"][:5])


def test_a_gans_latents_are_found_again_from_seeds(run, models, synthetic, tmp_path):
    args = ("--seed", SEED, "--shard-rows", 4, "--batch-size", 4)
    ran = run("build", "--images", synthetic, "--generator", f"gan={models['gan']}", *args, "--out", tmp_path)  # fmt: skip
    assert ran.code == 0, ran.err
    opened = zoo.open(tmp_path)
    z = np.stack([np.random.RandomState(SEED + i).randn(8) for i in range(9)])
    np.testing.assert_allclose(opened["gan.z"][:], z, rtol=1e-6)
    port = stylegan2.load(str(models["gan"]))
    close(opened["gan"][:], port.apply(port.params, z, method="mapping"))


def test_another_seed_than_the_first_images_is_refused(run, models, synthetic, tmp_path):  # fmt: skip
    args = ("--images", synthetic, "--generator", f"gan={models['gan']}")
    ran = run("build", *args, "--seed", SEED + 1, "--out", tmp_path)
    assert ran.code == 1
    (error,) = ran.errors
    assert error.startswith("gan has no encoder, and image 0 is not what it paints from seed 8")  # fmt: skip


def test_synthesize_names_its_images_by_seed_and_goes_on(run, models, synthetic):
    names_ = sorted(p.name for p in synthetic.glob("*.png"))
    assert names_ == [f"{SEED + i:010d}.png" for i in range(9)]
    first = (synthetic / names_[0]).read_bytes()
    (synthetic / names_[0]).unlink()
    kept = (synthetic / names_[1]).stat().st_mtime_ns
    args = ("--generator", models["gan"], "--n", 9, "--out", synthetic)
    ran = run("synthesize", *args, "--seed", SEED)
    assert ran.out == f"9 images of 16 pixels by gan, seeds 7 to 15, in {synthetic}\n"
    assert (synthetic / names_[0]).read_bytes() == first
    assert (synthetic / names_[1]).stat().st_mtime_ns == kept
    ran = run("synthesize", *args, "--seed", 0)
    assert ran.code == 1 and "holds other images" in ran.errors[0]


def test_images_are_painted_from_every_prior_there_is(models, capsys):
    for name in ("vae", "flow", "ddpm", "gan"):
        model = names.resolve(str(models[name]))
        found = family.load_family(model, Settings(steps=STEPS), rows=2)
        one, two = found.draw(np.array([3, 4])), found.draw(np.array([4]))
        assert one.shape == (2, 16, 16, 3)
        assert np.abs(one[1].astype(int) - two[0]).max() <= 1
    capsys.readouterr()


@pytest.mark.parametrize(
    "args, why",
    [
        (
            ("--generator", "{vq}"),
            "vq is a VQVAE: its latents have no prior to draw from",
        ),
        (("--generator", "{gan}", "--n", 0), "--n 0: use 1 or more"),
        (("--generator", "{gan}", "--seed", -1), "--seed -1: seeds go from 0 to"),
        (("--generator", "mini-clip-p8"), "is of no family that can be stitched"),
    ],
)
def test_what_cannot_be_painted_is_refused(run, models, tmp_path, args, why):
    args = [a.format(**models) if isinstance(a, str) else a for a in args]
    ran = run("synthesize", *args, "--out", tmp_path / "images")
    assert ran.code == 1 and why in ran.errors[0]
    assert not (tmp_path / "images").exists()


def test_an_image_is_made_the_models_size(models):
    model = names.resolve(str(models["flow"]))
    found = family.load_family(model, Settings())
    assert found.prepare(Image.new("RGB", (70, 50))).shape == (16, 16, 3)
    with pytest.raises(UneError, match="--size 32: flow makes images of 16 pixels"):
        family.load_family(model, Settings(size=32))


def test_what_it_costs_is_told_before_a_build(run, specs, faces, tmp_path):
    args = ("--generator", *specs, "--dry-run", "--json", "--batch-size", 8)
    ran = run("build", "--images", faces, *args, "--steps", STEPS, "--out", tmp_path / "z")  # fmt: skip
    assert ran.code == 0, ran.err
    parts = {n: m["flops_per_image"] for n, m in ran.json["models"].items()}
    assert list(parts["flow"]) == ["flow"] and parts["flow"]["flow"] > 1e5
    assert all(s > 0 for m in ran.json["models"].values() for s in m["seconds_per_image"].values())  # fmt: skip
