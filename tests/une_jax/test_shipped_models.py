"""The shipped miniature does its job on faces that it never saw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ports import clip, preprocess, stable_diffusion
from une_jax import image_metrics, miniature, probes
from une_jax.cli import family, generator, names
from une_jax.errors import UneError
from une_jax.miniature import captions, factors, render

N = 320


@pytest.fixture(scope="module")
def truth():
    return factors.draw(jax.random.key(99), N)


@pytest.fixture(scope="module")
def pixels(truth):
    faces = render.faces(truth.scores, truth.nuisance)
    return np.asarray(faces * 255 + 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    settings = generator.Settings(steps=12, controls=True)
    return generator.load_generator(names.resolve("mini-sd15"), settings)


@pytest.fixture(scope="module")
def inverted(model, pixels):
    return model.compute(pixels, np.arange(N))


def test_it_is_small_enough_to_ship():
    files = [f for f in miniature.MODELS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 45e6
    assert {f.suffix for f in files} == {".json", ".txt", ".safetensors", ".md"}


def test_the_vae_keeps_faces_recognisable(model, pixels):
    unit = np.float32(1 / 255)
    again = model.autoencode(pixels[:64])
    assert float(image_metrics.psnr(pixels[:64] * unit, again * unit).mean()) > 29


def test_noise_decodes_to_the_image_it_came_from(model, pixels, inverted):
    again = model.decode(inverted.arrays["mini-sd15"][:64])
    unit = np.float32(1 / 255)
    own = image_metrics.psnr(pixels[:64] * unit, again * unit)
    other = image_metrics.psnr(pixels[:64] * unit, np.roll(again, 1, axis=0) * unit)
    assert float(own.mean()) > float(other.mean()) + 8


def test_attributes_are_linear_in_the_noise_and_not_in_its_control(truth, inverted):
    train, test = slice(0, 240), slice(240, N)
    auc = {}
    for view in ("mini-sd15", "mini-sd15.forward"):
        x = jnp.asarray(inverted.arrays[view].reshape(N, -1))
        # Few rows: fewer components than the noise has, and a firm penalty.
        probe = probes.fit(x[train], truth.scores[train] > 0, components=100, l2=30.0)
        metrics = probes.evaluate(probes.scores(probe, x[test]), truth.scores[test] > 0)
        auc[view] = float(metrics.auc.mean())
    assert auc["mini-sd15"] > 0.7
    assert auc["mini-sd15"] > auc["mini-sd15.forward"] + 0.15


def test_a_prompt_changes_what_the_same_noise_becomes(model):
    noise = np.random.default_rng(0).standard_normal((16, 4, 8, 8), np.float32)
    dark = model.decode(noise, model.condition("a photo of a man with black hair"))
    fair = model.decode(noise, model.condition("a photo of a woman with blond hair"))
    top = (slice(None), slice(10, 20), slice(20, 44))  # the hair
    assert fair[top].mean() > dark[top].mean() + 30


def test_a_consistency_model_samples_in_few_steps(model):
    lcm = generator.load_generator(
        names.resolve("mini-lcm"), generator.Settings(steps=4), rows=8
    )
    assert lcm.samples_in_few_steps and not model.samples_in_few_steps
    noise = np.random.default_rng(0).standard_normal((8, 4, 8, 8), np.float32)
    dark, fair = (
        lcm.decode_few(noise, lcm.condition(f"a photo of a woman with {colour} hair"))
        for colour in ("black", "blond")
    )
    top = (slice(None), slice(10, 20), slice(20, 44))
    assert fair[top].mean() > dark[top].mean() + 30
    assert np.abs(fair[0].astype(int) - fair[1]).mean() > 5  # one face each
    # A row is the same whatever stands beside it, up to a convolution's rounding.
    again = lcm.decode_few(
        noise[:3], lcm.condition("a photo of a woman with blond hair")
    )
    assert np.abs(again.astype(int) - fair[:3]).max() <= 1
    with pytest.raises(UneError, match="mini-sd15 is no consistency model"):
        model.decode_few(noise)


def test_clip_matches_faces_with_their_captions(truth, pixels):
    folder = str(miniature.path("mini-clip-p8"))
    port = clip.load(folder)
    processor = preprocess.load(folder)
    from PIL import Image

    x = np.stack([processor(Image.fromarray(p)) for p in pixels[:64]])
    texts = captions.write(
        np.asarray(truth.attributes[:64]), np.random.default_rng(0), mention=0.75
    )
    ids = stable_diffusion.token_ids(stable_diffusion.load_tokenizer(folder), texts)
    a, b = (np.asarray(f) for f in port.apply(port.params, x, jnp.asarray(ids)))
    a, b = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (a, b))
    assert ((a @ b.T).argmax(1) == np.arange(64)).mean() > 0.5


@pytest.mark.torch
def test_diffusers_loads_the_same_files_and_agrees():
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    folder = miniature.path("mini-sd15")
    reference = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    sd = stable_diffusion.load(str(folder))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 4), np.float32)
    t = np.array([10, 900], np.int32)
    cond = np.asarray(stable_diffusion.encode_prompts(sd, ["a photo of a man", ""]))
    ours = sd.unet.apply(sd.unet.params, x, jnp.asarray(t), cond)
    with torch.no_grad():
        theirs = reference(
            torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t), torch.tensor(cond)
        ).sample.numpy()
    error = np.abs(np.asarray(ours) - theirs.transpose(0, 2, 3, 1)).max()
    assert error / np.abs(theirs).max() < 2e-5


def test_the_gan_paints_faces_that_differ(pixels):
    """As bright as faces on average, everywhere, and as unlike one another."""
    gan = family.load_family(names.resolve("mini-gan"), generator.Settings())
    made = gan.draw(np.arange(N)) / np.float32(255)
    faces = np.stack([gan.prepare(Image.fromarray(x)) for x in pixels]) / np.float32(
        255
    )
    assert np.abs(made.mean(0) - faces.mean(0)).mean() < 0.06
    assert 0.7 < made.std(0).mean() / faces.std(0).mean() < 1.2


def test_the_flow_gives_faces_back_and_knows_noise_when_it_sees_it(pixels):
    """Its latents of faces are nearer to N(0, I) than those of faces in negative."""
    flow = family.load_family(names.resolve("mini-glow"), generator.Settings())
    faces = np.stack([flow.prepare(Image.fromarray(x)) for x in pixels[:64]])
    eps = flow.compute(faces, np.arange(64)).arrays["mini-glow.eps"]
    again = flow.decode("mini-glow.eps", eps)
    assert np.abs(again.astype(int) - faces).max() <= 3
    negative = flow.compute(255 - faces, np.arange(64)).arrays["mini-glow.eps"]
    assert np.square(eps).mean() < 0.8 * np.square(negative).mean()


def test_the_pixel_diffusion_model_gives_faces_back_from_their_noise(pixels):
    settings = generator.Settings(steps=20)
    ddpm = family.load_family(names.resolve("mini-ddpm"), settings)
    faces = np.stack([ddpm.prepare(Image.fromarray(x)) for x in pixels[:32]])
    noise = ddpm.compute(faces, np.arange(32)).arrays["mini-ddpm"]
    again = ddpm.decode("mini-ddpm", noise)
    unit = np.float32(1 / 255)
    own = image_metrics.psnr(faces * unit, again * unit)
    other = image_metrics.psnr(faces * unit, np.roll(again, 1, axis=0) * unit)
    assert float(own.mean()) > float(other.mean()) + 8


def test_the_vae_of_one_vector_keeps_a_face_apart_from_others(pixels):
    vae = family.load_family(names.resolve("mini-vae"), generator.Settings())
    latents = vae.compute(pixels[:64], np.arange(64)).arrays["mini-vae"]
    again = vae.decode("mini-vae", latents)
    unit = np.float32(1 / 255)
    own = image_metrics.psnr(pixels[:64] * unit, again * unit)
    mean = np.broadcast_to(pixels.mean(0).astype(np.uint8), (64, 64, 64, 3))
    assert float(own.mean()) > 18
    assert (
        float(own.mean())
        > float(image_metrics.psnr(pixels[:64] * unit, mean * unit).mean()) + 4
    )


def test_the_vqvae_keeps_faces_recognisable(pixels):
    vq = family.load_family(names.resolve("mini-vq"), generator.Settings())
    latents = vq.compute(pixels[:64], np.arange(64)).arrays["mini-vq"]
    unit = np.float32(1 / 255)
    again = vq.decode("mini-vq", latents)
    assert float(image_metrics.psnr(pixels[:64] * unit, again * unit).mean()) > 23
