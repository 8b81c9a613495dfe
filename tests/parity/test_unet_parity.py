"""UNet2DConditionModel against diffusers: blocks to 1e-5, the whole to 2e-5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import block, from_torch, normal, part, saved, scattered, to_torch, torch

from ports import blocks, unet
from ports.conditioning import TimeEmbedding, sinusoids
from ports.transformer import Attention, FeedForward, Transformer

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
SMALL = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    down_block_types=(CROSS, PLAIN),
    up_block_types=(PLAIN_UP, CROSS_UP),
    layers_per_block=1,
    norm_num_groups=4,
    cross_attention_dim=12,
    attention_head_dim=2,
)
VARIANTS = {
    # Stable Diffusion 1: 1x1 convolutions around the transformers, as many heads
    # everywhere; two layers in a block, and sizes that no downsampling halves.
    "sd1": dict(layers_per_block=2),
    # Stable Diffusion 2: linear layers there, heads by level.
    "sd2": dict(
        block_out_channels=(8, 12, 16),
        down_block_types=(CROSS, CROSS, PLAIN),
        up_block_types=(PLAIN_UP, CROSS_UP, CROSS_UP),
        attention_head_dim=(1, 3, 4),
        use_linear_projection=True,
    ),
    # Text at the bottom only, other channels, the other sinusoids, other epsilons.
    "other": dict(
        down_block_types=(PLAIN, CROSS),
        up_block_types=(CROSS_UP, PLAIN_UP),
        in_channels=5,
        out_channels=3,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-2,
    ),
}


def reference(**changes):
    torch.manual_seed(0)
    return scattered(diffusers.UNet2DConditionModel(**SMALL | changes))


def inputs(model, *, prompts=2):
    x = normal(2, 7, 9, model.config["in_channels"])
    context = normal(prompts, 5, model.config["cross_attention_dim"], seed=1)
    return x, np.array([3, 981], np.int32), context


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(tmp_path, variant):
    """One context for the whole batch equals that context repeated in torch."""
    model = reference(**VARIANTS[variant])
    port = unet.load(saved(model, tmp_path))
    x, t, context = inputs(model, prompts=1 if variant == "sd2" else 2)
    states = to_torch(context).expand(2, -1, -1)
    expected = from_torch(model(to_torch(x), to_torch(t), states).sample)
    assert expected.shape == (2, 7, 9, port.config.out_channels)
    eps = jax.jit(port.apply)(port.params, x, t, context)
    assert rel(eps, expected) <= 2e-5


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    """A torch model, its folder and its port, for the tests of single blocks."""
    model = reference()
    folder = saved(model, tmp_path_factory.mktemp("unet"))
    return model, folder, unet.load(folder)


def test_bfloat16_stays_near_float32(sd1):
    """Measured 1.6e-2 of the largest value (one rounding is 3.9e-3)."""
    model, folder, _ = sd1
    half = unet.load(folder, dtype=jnp.bfloat16)
    x, t, context = inputs(model)
    eps = jax.jit(half.apply)(half.params, x, t, context)
    assert eps.dtype == jnp.bfloat16
    expected = from_torch(model(to_torch(x), to_torch(t), to_torch(context)).sample)
    assert rel(eps.astype(jnp.float32), expected) < 3e-2


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
def test_time_embedding(sd1, flip, shift):
    model, _, port = sd1
    t = np.array([0, 1, 10, 500, 999], np.int32)
    expected = diffusers.models.embeddings.get_timestep_embedding(
        to_torch(t), 8, flip_sin_to_cos=flip, downscale_freq_shift=shift
    )
    got = sinusoids(jnp.asarray(t), 8, cosine_first=flip, shift=shift)
    assert rel(got, expected) <= 1e-5
    x = expected.numpy()
    got = block(
        lambda rngs: TimeEmbedding(8, 32, rngs=rngs), port.params["time_embedding"], x
    )
    assert rel(got, model.time_embedding(expected)) <= 1e-5


def test_resnet_with_time_and_a_change_of_width(sd1):
    model, _, port = sd1
    path = ("down_blocks", 1, "resnets", 0)
    x, time = normal(2, 7, 9, 8), normal(2, 32, seed=1)

    def make(rngs):
        return blocks.ResnetBlock(8, 16, groups=4, eps=1e-5, time_dim=32, rngs=rngs)

    params = part(port.params, path)
    got = block(make, params, x, block(make, params, time, method="offset"))
    expected = model.down_blocks[1].resnets[0](to_torch(x), to_torch(time))
    assert rel(got, from_torch(expected)) <= 1e-5


def of_transformer(params, x, context):
    def make(rngs):
        return Transformer(16, 12, 2, layers=1, groups=4, rngs=rngs)

    return block(make, params, x, block(make, params, context, method="tell"))


def test_transformer_of_pixels(sd1):
    model, _, port = sd1
    path = ("mid_block", "attentions", 0)
    x, context = normal(2, 7, 9, 16), normal(2, 5, 12, seed=1)
    got = of_transformer(part(port.params, path), x, context)
    transformer = model.mid_block.attentions[0]
    (expected,) = transformer(to_torch(x), to_torch(context), return_dict=False)
    assert rel(got, from_torch(expected)) <= 1e-5


def test_the_transformers_norm_has_its_own_epsilon(tmp_path):
    """1e-6 whatever the config says: small pixels show it."""
    model = reference(norm_eps=1e-2)
    port = unet.load(saved(model, tmp_path))
    x, context = 1e-3 * normal(2, 3, 3, 16), normal(2, 5, 12, seed=1)
    got = of_transformer(port.params["mid_block"]["attentions"][0], x, context)
    transformer = model.mid_block.attentions[0]
    (expected,) = transformer(to_torch(x), to_torch(context), return_dict=False)
    assert rel(got, from_torch(expected)) <= 1e-5


@pytest.mark.parametrize("which", ["attn1", "attn2"])
def test_attention_to_itself_and_to_text(sd1, which):
    model, _, port = sd1
    path = ("mid_block", "attentions", 0, "transformer_blocks", 0)
    torch_block = model.mid_block.attentions[0].transformer_blocks[0]
    width = 16 if which == "attn1" else 12
    x, context = normal(2, 63, 16), normal(2, 7, width, seed=1)

    def make(rngs):
        return Attention(16, width, 2, rngs=rngs)

    params = part(port.params, path)[which]
    text = block(make, params, context, method="keys_values")
    got = block(make, params, x, text)
    expected = getattr(torch_block, which)(to_torch(x), to_torch(context))
    assert rel(got, expected) <= 1e-5


def test_feed_forward(sd1):
    """Its gate is the exact GELU; the tanh approximation is 1e-4 away."""
    model, _, port = sd1
    path = ("mid_block", "attentions", 0, "transformer_blocks", 0, "ff")
    x = 2 * normal(2, 63, 16)
    got = block(lambda rngs: FeedForward(16, rngs=rngs), part(port.params, path), x)
    torch_block = model.mid_block.attentions[0].transformer_blocks[0]
    assert rel(got, torch_block.ff(to_torch(x))) <= 1e-5


@pytest.mark.parametrize("size", [(7, 9), (8, 6), (1, 2)])
def test_downsample(sd1, size):
    model, _, port = sd1
    x = normal(2, *size, 8)
    got = block(
        lambda rngs: blocks.Downsample(8, rngs=rngs),
        part(port.params, ("down_blocks", 0, "downsamplers", 0)),
        x,
    )
    expected = model.down_blocks[0].downsamplers[0](to_torch(x))
    assert rel(got, from_torch(expected)) <= 1e-5


@pytest.mark.parametrize("size", [None, (7, 9), (8, 9), (7, 10)])
def test_upsample_to_the_size_of_the_skip_connection(sd1, size):
    model, _, port = sd1
    x = normal(2, 4, 5, 16)

    class Upsample(blocks.Upsample):
        def __call__(self, x):
            return super().__call__(x, size=size)

    got = block(
        lambda rngs: Upsample(16, rngs=rngs),
        part(port.params, ("up_blocks", 0, "upsamplers", 0)),
        x,
    )
    expected = model.up_blocks[0].upsamplers[0](to_torch(x), size)
    assert rel(got, from_torch(expected)) <= 1e-5
