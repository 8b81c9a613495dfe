"""Whole pipelines against diffusers: what each one's prompts become, and its noise."""

import json
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import from_torch, normal, scattered, to_torch, torch

from ports import stable_diffusion, unet
from ports.conditioning import Condition

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

LETTERS = string.ascii_lowercase
START, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = ["!", *LETTERS, *(f"{c}</w>" for c in LETTERS), START, END]
PROMPTS = ["", "a b c"]
TEXT = dict(
    vocab_size=len(TOKENS),
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=3,
    num_attention_heads=3,
    max_position_embeddings=8,
    bos_token_id=TOKENS.index(START),
    eos_token_id=TOKENS.index(END),
    pad_token_id=0,
)
UNET = dict(
    sample_size=8,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=2,
)
XL = dict(
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2),
    attention_head_dim=(2, 4),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=6,
    projection_class_embeddings_input_dim=6 * 6 + 10,
)


def tokenizer(folder, *, pad=END):
    """CLIP's tokenizer with single letters for words."""
    folder.mkdir()
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 8,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad,
    }
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder)


def text_encoder(kind=transformers.CLIPTextModel, **changes):
    return scattered(kind(transformers.CLIPTextConfig(**TEXT | changes)))


def network(cross, **changes):
    torch.manual_seed(0)
    config = UNET | dict(cross_attention_dim=cross) | changes
    return scattered(diffusers.UNet2DConditionModel(**config))


def tiny_vae():
    return scattered(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        )
    )


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    """SDXL: two text encoders, the second's tokenizer pads with another token."""
    folder = tmp_path_factory.mktemp("xl")
    with_projection = transformers.CLIPTextModelWithProjection
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(
            with_projection, hidden_size=15, hidden_act="gelu", projection_dim=10
        ),
        tokenizer=tokenizer(folder / "one"),
        tokenizer_2=tokenizer(folder / "two", pad="!"),
        unet=network(27, **XL),
        scheduler=diffusers.DDIMScheduler(),
    )
    pipeline.save_pretrained(folder / "pipeline")
    return pipeline, stable_diffusion.load(str(folder / "pipeline"))


def test_sdxl_prompts(xl):
    """hidden_states[-2] of both text encoders side by side; the second's feature."""
    pipeline, sd = xl
    states, _, pooled, _ = pipeline.encode_prompt(
        PROMPTS, device="cpu", do_classifier_free_guidance=False
    )
    cond = stable_diffusion.encode_prompts(sd, PROMPTS, size=64)
    assert rel(cond.context, states) <= 2e-5
    assert rel(cond.pooled, pooled) <= 2e-5
    sizes = pipeline._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, 10)
    np.testing.assert_array_equal(cond.time_ids, sizes.expand(2, -1))
    assert cond.guidance_scale is None


def test_sdxl_noise(xl):
    pipeline, sd = xl
    x, t = normal(2, 7, 9, 4), np.array([3, 981], np.int32)
    cond = stable_diffusion.encode_prompts(sd, PROMPTS, size=64)
    added = {
        "text_embeds": torch.from_numpy(np.array(cond.pooled)),
        "time_ids": torch.from_numpy(np.array(cond.time_ids)),
    }
    expected = pipeline.unet(
        to_torch(x),
        to_torch(t),
        torch.from_numpy(np.array(cond.context)),
        added_cond_kwargs=added,
    ).sample
    got = jax.jit(sd.unet.apply)(sd.unet.params, x, t, cond)
    assert rel(got, from_torch(expected)) <= 2e-5
    # One prompt for the whole batch is that prompt for each.
    one = stable_diffusion.encode_prompts(sd, PROMPTS[:1], size=64)
    both = stable_diffusion.encode_prompts(sd, PROMPTS[:1] * 2, size=64)
    apply = jax.jit(sd.unet.apply)
    got, expected = (apply(sd.unet.params, x, t, cond) for cond in (one, both))
    assert rel(got, expected) <= 2e-5  # products of one row sum in another order


def test_sdxl_sizes_may_be_one_row_for_several_prompts(xl):
    _, sd = xl
    x, t = normal(2, 7, 9, 4), np.array([3, 981], np.int32)
    cond = stable_diffusion.encode_prompts(sd, PROMPTS, size=64)
    apply = jax.jit(sd.unet.apply)
    once = apply(sd.unet.params, x, t, cond._replace(time_ids=cond.time_ids[:1]))
    assert rel(once, apply(sd.unet.params, x, t, cond)) <= 2e-5


def test_sdxl_refuses_a_prompt_without_its_sizes(xl):
    _, sd = xl
    context = jnp.zeros((1, 8, 27))
    with pytest.raises(ValueError, match=r"needs Condition\.pooled"):
        sd.unet.apply(sd.unet.params, jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), context)


@pytest.fixture(scope="module")
def lcm(tmp_path_factory):
    """A consistency model: Stable Diffusion 1 with a guidance embedding."""
    folder = tmp_path_factory.mktemp("lcm")
    pipeline = diffusers.LatentConsistencyModelPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "one"),
        unet=network(12, time_cond_proj_dim=10),
        scheduler=diffusers.LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return pipeline, stable_diffusion.load(str(folder / "pipeline"))


@pytest.mark.parametrize("scale", [1.0, 3.5, None])
def test_lcm_noise_with_its_guidance_embedded_or_left_out(lcm, scale):
    pipeline, sd = lcm
    x, t = normal(2, 7, 9, 4), np.array([3, 981], np.int32)
    cond = stable_diffusion.encode_prompts(sd, [""], guidance_scale=scale)
    states = pipeline.encode_prompt([""], "cpu", 1, False)[0]
    assert rel(cond.context, states) <= 2e-5
    embedding = None
    if scale is not None:
        w = torch.full((2,), scale - 1)
        embedding = pipeline.get_guidance_scale_embedding(w, embedding_dim=10)
    expected = pipeline.unet(
        to_torch(x), to_torch(t), states.expand(2, -1, -1), timestep_cond=embedding
    ).sample
    got = jax.jit(sd.unet.apply)(sd.unet.params, x, t, cond)
    assert rel(got, from_torch(expected)) <= 2e-5


def test_lcm_must_be_told_its_guidance(lcm):
    """Nothing said is neither 1 nor none: the network's output differs."""
    _, sd = lcm
    x, t = jnp.zeros((1, 8, 8, 4)), jnp.zeros(1)
    with pytest.raises(ValueError, match="pass guidance_scale=1.0 for none"):
        stable_diffusion.encode_prompts(sd, [""])
    context = stable_diffusion.encode_prompts(sd, [""], guidance_scale=None).context
    with pytest.raises(ValueError, match="embeds a guidance scale: pass Condition"):
        sd.unet.apply(sd.unet.params, x, t, context)
    one, none = (
        sd.unet.apply(sd.unet.params, x, t, Condition(context, scale))
        for scale in (jnp.ones(1), None)
    )
    assert rel(one, none) > 1e-3


def test_a_plain_unet_refuses_a_guidance_scale():
    config = unet.Config(**UNET, cross_attention_dim=12)
    with pytest.raises(ValueError, match="embeds no guidance scale"):
        unet.checked(config, Condition(jnp.zeros((1, 8, 12)), jnp.ones(1)))
