"""The commands on other families: a consistency model, and a DINOv3 by two recipes."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from PIL import Image

from ports import dinov3, preprocess, stable_diffusion, vae
from une_jax import ddim, images, zoo
from une_jax.schedule import Schedule

GOLDENS = Path(__file__).parents[2] / "ports" / "goldens"


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A DINOv3, random and tiny, that asks for 16 pixels."""
    folder = tmp_path_factory.mktemp("models") / "dino"
    shutil.copytree(GOLDENS / "dinov3", folder)
    raw = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(raw))
    return folder


@pytest.fixture(scope="module")
def consistent(tiny, tmp_path_factory):
    """The tiny pipeline with a UNet that embeds a guidance scale."""
    folder = tmp_path_factory.mktemp("models") / "lcm"
    shutil.copytree(tiny, folder)
    for part, case in (("unet", "unet_lcm"), ("text_encoder", "clip_text")):
        shutil.copytree(GOLDENS / case, folder / part, dirs_exist_ok=True)
    edit(folder / "model_index.json", _class_name="LatentConsistencyModelPipeline")
    edit(folder / "tokenizer/tokenizer_config.json", model_max_length=8)
    return folder


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def built(run, faces, dino, consistent, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    ran = run(
        *("build", "--images", faces / "img_align_celeba", "--limit", 4),
        *("--generator", f"lcm={consistent}", "--steps", 2),
        *("--encoder", f"dino={dino}", "--encoder", f"paper={dino}"),
        *("--preprocess", "paper=dinov3-paper", "--out", folder),
    )
    assert ran.code == 0, ran.err
    return zoo.open(folder)


def pictures(opened, faces):
    return [Image.open(faces / "img_align_celeba" / key) for key in opened.keys]


def test_a_consistency_model_is_told_that_there_is_no_guidance(
    built, faces, consistent
):
    assert built.manifest.views[0].settings["guidance_scale"] == 1.0
    sd = stable_diffusion.load(str(consistent))
    cond = stable_diffusion.encode_prompts(sd, [""], guidance_scale=1.0)
    pixels = np.stack([images.centre_crop(x, 16) for x in pictures(built, faces)])
    latents = sd.vae.apply(sd.vae.params, images.to_signed(jnp.asarray(pixels)), method="encode")  # fmt: skip
    schedule = Schedule.from_config(sd.scheduler, steps=2, eval_at="source")
    with jax.default_matmul_precision("float32"):
        x_T = ddim.invert(
            sd.unet.apply,
            sd.unet.params,
            vae.scale(sd.vae.config, latents),
            schedule,
            cond,
        )
    assert rel(built["lcm"][:], np.moveaxis(np.asarray(x_T), 3, 1)) < 2e-5


def test_an_encoder_sees_its_own_pixels_or_those_of_a_recipe(built, faces, dino):
    port = dinov3.load(str(dino))
    own = preprocess.load(str(dino))
    views = {view.name: view for view in built.manifest.views}
    for name, steps in (("dino", own), ("paper", preprocess.RECIPES["dinov3-paper"])):
        told = views[name].settings["preprocessing"]
        assert told == {**steps.as_json(), "sha256": steps.sha256}
        pixels = np.stack([steps(x.convert("RGB")) for x in pictures(built, faces)])
        features = port.apply(port.params, pixels, method="encode_image")
        assert rel(built[name][:], features) < 2e-5
    assert rel(built["dino"][:], built["paper"][:]) > 1e-2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dino=papr", "no preprocessing recipe 'papr': choose from dinov3-paper"),
        ("dono=dinov3-paper", "write VIEW=RECIPE with an encoder's view (dino)"),
        ("dino", "write VIEW=RECIPE"),
    ],
)
def test_a_recipe_of_no_such_name_or_view(run, faces, dino, tmp_path, given, message):
    ran = run(
        *("build", "--images", faces / "img_align_celeba", "--out", tmp_path / "zoo"),
        *("--encoder", f"dino={dino}", "--preprocess", given),
    )
    assert ran.code == 1 and message in ran.err
