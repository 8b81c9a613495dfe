"""UNet2DModel against diffusers: blocks to 1e-5, the whole to 2e-5."""

import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import (
    block,
    from_torch,
    normal,
    part,
    saved,
    scattered,
    shapes_of,
    to_torch,
    torch,
    torch_shapes,
)
from safetensors.numpy import load_file, save_file

from ports import blocks, ddpm
from ports.port import define, init
from une_jax.schedule import Schedule

sys.path.insert(0, str(Path(__file__).parents[2]))  # scripts/ is no installed package

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

WEIGHTS = "diffusion_pytorch_model.safetensors"
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
DOWN, ATTN_DOWN = "DownBlock2D", "AttnDownBlock2D"
UP, ATTN_UP = "UpBlock2D", "AttnUpBlock2D"
RESNET_DOWN, RESNET_UP = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
SMALL = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    down_block_types=(DOWN, ATTN_DOWN),
    up_block_types=(ATTN_UP, UP),
    layers_per_block=1,
    norm_num_groups=4,
)
GOOGLE = dict(
    block_out_channels=(8, 12, 12, 16),
    down_block_types=(DOWN, ATTN_DOWN, DOWN, DOWN),
    up_block_types=(UP, UP, ATTN_UP, UP),
    layers_per_block=2,
    attention_head_dim=None,
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
    norm_eps=1e-6,
)
# ADM's and the consistency models': resnets resample, time scales and shifts.
ADM = dict(
    block_out_channels=(8, 16, 16),
    down_block_types=(RESNET_DOWN, ATTN_DOWN, ATTN_DOWN),
    up_block_types=(ATTN_UP, ATTN_UP, RESNET_UP),
    attention_head_dim=4,
    downsample_type="resnet",
    upsample_type="resnet",
    resnet_time_scale_shift="scale_shift",
    attn_norm_num_groups=4,
    out_channels=6,
)
VARIANTS = {
    "google": GOOGLE,
    "heads of 8": dict(attention_head_dim=8),
    "attention everywhere": dict(
        down_block_types=(ATTN_DOWN,) * 2,
        up_block_types=(ATTN_UP,) * 2,
        attention_head_dim=2,
        layers_per_block=2,
    ),
    "unlike on both sides": dict(
        down_block_types=(ATTN_DOWN, DOWN), up_block_types=(ATTN_UP, ATTN_UP)
    ),
    "cosine first, shifted": dict(freq_shift=1, norm_eps=1e-2),
    "sine first": dict(flip_sin_to_cos=False, downsample_padding=0),
    "no attention, other channels": dict(
        down_block_types=(DOWN,) * 2,
        up_block_types=(UP,) * 2,
        add_attention=False,
        in_channels=1,
        out_channels=2,
    ),
    "groups of the middle": dict(attn_norm_num_groups=2),
    "ADM": ADM,
    "improved DDPM": dict(resnet_time_scale_shift="scale_shift", out_channels=6),
    "resnets resample in blocks with attention alone": dict(
        block_out_channels=(8, 8, 16),
        down_block_types=(DOWN, ATTN_DOWN, DOWN),
        up_block_types=(ATTN_UP, UP, UP),
        downsample_type="resnet",
        upsample_type="resnet",
    ),
    "resnets resample on one side": dict(
        down_block_types=(RESNET_DOWN, DOWN), upsample_type="conv"
    ),
    "a wide embedding of time": dict(time_embedding_dim=20),
}
CLASSES = {
    "labels": (dict(num_class_embeds=5), np.array([4, 1], np.int32)),
    "timesteps": (dict(class_embed_type="timestep"), np.array([40, 7], np.int32)),
    "embeddings": (dict(class_embed_type="identity"), normal(2, 32, seed=3)),
    "embeddings, though labels have a number": (
        dict(class_embed_type="identity", num_class_embeds=5),
        normal(2, 32, seed=3),
    ),
}


def reference(**changes):
    torch.manual_seed(0)
    return scattered(diffusers.UNet2DModel(**SMALL | changes))


def inputs(channels=3):
    return normal(2, 16, 8, channels), np.array([3, 981], np.int32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(tmp_path, variant):
    model = reference(**VARIANTS[variant])
    port = ddpm.load(saved(model, tmp_path))
    x, t = inputs(port.config.in_channels)
    expected = from_torch(model(to_torch(x), to_torch(t)).sample)
    assert expected.shape == (2, 16, 8, port.config.out_channels)
    eps = jax.jit(port.apply)(port.params, x, t)
    assert rel(eps, expected) <= 2e-5


@pytest.mark.parametrize("way", CLASSES)
@pytest.mark.parametrize("kind", ["ADM", "plain"])
def test_classes(tmp_path, way, kind):
    changes, cond = CLASSES[way]
    model = reference(**(ADM if kind == "ADM" else {}) | changes)
    port = ddpm.load(saved(model, tmp_path))
    x, t = inputs()
    expected = from_torch(model(to_torch(x), to_torch(t), to_torch(cond)).sample)
    apply = jax.jit(port.apply)
    assert rel(apply(port.params, x, t, cond), expected) <= 2e-5
    assert rel(apply(port.params, x, t, cond[::-1]), expected) > 1e-4


@pytest.mark.parametrize("size", [(4, 6), (8, 2)])
@pytest.mark.parametrize("resize", ["up", "down"])
def test_resnets_that_resample(tmp_path, resize, size):
    model = reference(**ADM)
    port = ddpm.load(saved(model, tmp_path))
    side, n = (("down_blocks", 8), ("up_blocks", 16))[resize == "up"]
    x, time = normal(2, *size, n), normal(2, 32, seed=1)

    class Timed(blocks.ResnetBlock):
        def __call__(self, x, time):  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().__call__(x, self.offset(time))

    def make(rngs):
        how = {"groups": 4, "eps": 1e-5, "time_dim": 32, "scale_shift": True}
        return Timed(n, n, resize=resize, rngs=rngs, **how)

    got = block(make, part(port.params, (side, 0, f"{resize}samplers", 0)), x, time)
    theirs = getattr(getattr(model, side)[0], f"{resize}samplers")[0]
    expected = from_torch(theirs(to_torch(x), to_torch(time)))
    assert got.shape == expected.shape and rel(got, expected) <= 1e-5


def test_openais_64_pixels_have_diffusers_parameters():
    """openai/diffusers-cd_imagenet64_l2's config, which ADM's is but for the variance."""
    published = ADM | dict(
        sample_size=64,
        out_channels=3,
        block_out_channels=(192, 384, 576, 768),
        down_block_types=(RESNET_DOWN, ATTN_DOWN, ATTN_DOWN, ATTN_DOWN),
        up_block_types=(ATTN_UP, ATTN_UP, ATTN_UP, RESNET_UP),
        layers_per_block=3,
        attention_head_dim=64,
        attn_norm_num_groups=32,
        norm_num_groups=32,
        num_class_embeds=1000,
    )
    with torch.device("meta"):
        model = diffusers.UNet2DModel(**published)
    shapes, _ = define(ddpm.UNet, ddpm.config_from_json(dict(model.config)))
    assert shapes_of(shapes) == torch_shapes(model)


def test_the_published_size_has_diffusers_parameters():
    """google/ddpm-cat-256's config: every name and shape, with no weight in memory."""
    published = GOOGLE | dict(
        sample_size=256,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=(DOWN, DOWN, DOWN, DOWN, ATTN_DOWN, DOWN),
        up_block_types=(UP, ATTN_UP, UP, UP, UP, UP),
        norm_num_groups=32,
    )
    with torch.device("meta"):
        model = diffusers.UNet2DModel(**published)
    shapes, _ = define(ddpm.UNet, ddpm.config_from_json(dict(model.config)))
    assert shapes_of(shapes) == torch_shapes(model)


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A torch model, its folder and its port."""
    folder = tmp_path_factory.mktemp("ddpm")
    model = reference(**GOOGLE)
    return model, folder, ddpm.load(saved(model, folder))


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention(tmp_path, heads):
    """In small pixels, so that its epsilon shows."""
    model = reference(attention_head_dim=16 // heads, norm_eps=1e-3)
    port = ddpm.load(saved(model, tmp_path))
    x = 1e-2 * normal(2, 7, 9, 16)

    def make(rngs):
        return blocks.SelfAttention(16, groups=4, eps=1e-3, heads=heads, rngs=rngs)

    got = block(make, part(port.params, ("mid_block", "attentions", 0)), x)
    expected = model.mid_block.attentions[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(7, 9), (8, 6)])
def test_downsample(tmp_path, padding, size):
    model = reference(downsample_padding=padding)
    port = ddpm.load(saved(model, tmp_path))
    x = normal(2, *size, 8)
    got = block(
        lambda rngs: blocks.Downsample(8, padding=(padding, 1), rngs=rngs),
        part(port.params, ("down_blocks", 0, "downsamplers", 0)),
        x,
    )
    expected = model.down_blocks[0].downsamplers[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5


def old_names(weights):
    """As files from before diffusers 0.15, google's among them, name the attention."""
    renamed = {}
    for name, value in weights.items():
        for new, old in OLD.items():
            if "attentions." in name:
                name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = value
    return renamed


def test_files_with_the_old_names_of_the_attention(google, tmp_path):
    """diffusers reads them with the same meaning, so both sides agree on the result."""
    model, folder, port = google
    renamed = old_names(load_file(folder / WEIGHTS))
    assert sum(".proj_attn.weight" in name for name in renamed) == 2 + 1 + 3
    save_file(renamed, tmp_path / WEIGHTS)
    shutil.copy(folder / "config.json", tmp_path)
    loaded = ddpm.load(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, port.params)
    again = diffusers.UNet2DModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    x, t = inputs()
    again.requires_grad_(False)
    expected = model(to_torch(x), to_torch(t)).sample
    assert rel(again(to_torch(x), to_torch(t)).sample, expected) <= 1e-6


def test_bfloat16_stays_near_float32(google):
    model, folder, _ = google
    half = ddpm.load(str(folder), dtype=jnp.bfloat16)
    x, t = inputs()
    eps = jax.jit(half.apply)(half.params, x, t)
    assert eps.dtype == jnp.bfloat16
    expected = from_torch(model(to_torch(x), to_torch(t)).sample)
    assert rel(eps.astype(jnp.float32), expected) < 4e-2


@pytest.mark.parametrize("layout", ["folders", "side by side"])
def test_a_pipeline_samples_as_diffusers(google, tmp_path, layout):
    """Four DDIM steps from the same noise, through the schedule that was read."""
    model, _, port = google
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    pipeline = diffusers.DDPMPipeline(model, scheduler)
    pipeline.save_pretrained(tmp_path)
    if layout == "side by side":
        for file in (*tmp_path.glob("unet/*"), *tmp_path.glob("scheduler/*")):
            file.rename(tmp_path / file.name)
    loaded = ddpm.load_pipeline(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, loaded.unet.params, port.params)
    assert loaded.scheduler["_class_name"] == "DDPMScheduler"

    ddim = diffusers.DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(4)
    noise = normal(1, 8, 8, 3)
    theirs, ours = to_torch(noise), jnp.asarray(noise)
    for t in ddim.timesteps:
        theirs = ddim.step(model(theirs, t).sample, t, theirs).prev_sample
    apply = jax.jit(loaded.unet.apply)
    steps = Schedule.from_config(loaded.scheduler, steps=4).sampling
    for t, c_x, c_out in zip(steps.t, steps.c_x, steps.c_out, strict=True):
        ours = c_x * ours + c_out * apply(loaded.unet.params, ours, t[None])
    assert rel(ours, from_torch(theirs)) <= 5e-5


def test_diffusers_loads_what_the_miniature_writes(tmp_path):
    """As a pipeline: every tensor under its name and in its shape, the same noise."""
    from scripts.miniature.ddpm import CONFIG, SCHEDULER, write

    port = init(ddpm.UNet, CONFIG, jax.random.key(0))
    write(tmp_path, port.params)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert isinstance(pipeline, diffusers.DDIMPipeline)
    model = pipeline.unet.requires_grad_(False)
    theirs = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    ours = {n: x.shape for n, x in load_file(tmp_path / "unet" / WEIGHTS).items()}
    assert ours == theirs
    loaded = ddpm.load_pipeline(str(tmp_path))
    assert loaded.scheduler == SCHEDULER
    betas = Schedule.from_config(SCHEDULER, steps=1000).down.alpha_from
    assert rel(betas, pipeline.scheduler.alphas_cumprod.numpy()[::-1]) < 1e-5
    x, t = normal(1, 32, 32, 3), np.array([500], np.int32)
    expected = from_torch(model(to_torch(x), to_torch(t)).sample)
    assert rel(jax.jit(loaded.unet.apply)(loaded.unet.params, x, t), expected) <= 2e-5
