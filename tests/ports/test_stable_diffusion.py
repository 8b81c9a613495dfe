"""A whole pipeline folder: its parts, its prompts, its hash."""

import json
import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import DIFFUSERS, TRANSFORMERS, copy, folder

from ports import clip, stable_diffusion, unet, vae
from ports.checkpoint import CheckpointError, sha256

LENGTH = 8  # of the golden text tower
LETTERS = string.ascii_lowercase
TOKENS = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
SCHEDULER = {"_class_name": "PNDMScheduler", "beta_start": 0.00085}


@pytest.fixture
def pipeline(tmp_path):
    """A diffusers folder: golden weights, and a tokenizer that knows the letters."""
    index = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
    tokenizer = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    for name, value in (
        ("model_index.json", index),
        ("scheduler/scheduler_config.json", SCHEDULER),
        ("tokenizer/tokenizer_config.json", tokenizer),
        ("tokenizer/vocab.json", {t: i for i, t in enumerate(TOKENS)}),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    copy("vae", tmp_path / "vae")
    copy("clip_text", tmp_path / "text_encoder")
    copy("unet_sd1", tmp_path / "unet")
    return tmp_path


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def test_its_parts_are_those_of_its_folders(pipeline):
    sd = stable_diffusion.load(str(pipeline))
    same(sd.vae, vae.load(folder("vae")))
    same(sd.text_encoders[0].port, clip.load(folder("clip_text")))
    same(sd.unet, unet.load(folder("unet_sd1")))
    assert sd.scheduler == SCHEDULER
    assert sd.weights_sha256 == sha256(
        [pipeline / part for part in ("vae", "text_encoder", "unet")]
    )


def test_dtype_is_the_unets_alone(pipeline):
    sd = stable_diffusion.load(str(pipeline), dtype=jnp.bfloat16)
    ports = (sd.vae, sd.text_encoders[0].port, sd.unet)
    dtypes = [jax.tree.leaves(p.params)[0].dtype for p in ports]
    assert dtypes == [jnp.float32, jnp.float32, jnp.bfloat16]


def test_prompts_are_padded_to_the_full_length(pipeline):
    tokenizer = stable_diffusion.load_tokenizer(str(pipeline), subfolder="tokenizer")
    ids = stable_diffusion.token_ids(tokenizer, ["", "a b", "a b c d e f g h i"])
    start, end = TOKENS.index("<|startoftext|>"), TOKENS.index("<|endoftext|>")
    a, b, c, d, e, f = (TOKENS.index(f"{letter}</w>") for letter in "abcdef")
    assert ids.dtype == np.int32
    assert ids.tolist() == [
        [start] + [end] * 7,
        [start, a, b] + [end] * 5,
        [start, a, b, c, d, e, f, end],
    ]


def test_prompts_become_the_text_encoders_last_states(pipeline):
    sd = stable_diffusion.load(str(pipeline))
    prompts = ["", "a b"]
    (text,) = sd.text_encoders
    states = stable_diffusion.encode_prompts(sd, prompts)
    assert states.shape == (2, LENGTH, sd.unet.config.cross_attention_dim)
    ids = jnp.asarray(stable_diffusion.token_ids(text.tokenizer, prompts))
    apply = jax.jit(text.port.apply, static_argnames="method")
    hidden = apply(text.port.params, ids, method="hidden_text")
    assert rel(states, hidden) < 1e-6
    # The UNet takes them, one row for any batch.
    x, t = jnp.zeros((3, 8, 8, 4)), jnp.array([1, 2, 3])
    eps = jax.eval_shape(sd.unet.apply, sd.unet.params, x, t, states[:1])
    assert eps.shape == x.shape


def test_a_variant_is_that_of_every_part(pipeline):
    before = stable_diffusion.load(str(pipeline))
    for part, name in (
        ("vae", DIFFUSERS),
        ("unet", DIFFUSERS),
        ("text_encoder", TRANSFORMERS),
    ):
        file = pipeline / part / name
        file.rename(file.with_name(name.replace(".", ".fp16.", 1)))
    with pytest.raises(CheckpointError, match="variant"):
        stable_diffusion.load(str(pipeline))
    after = stable_diffusion.load(str(pipeline), variant="fp16")
    same(before.unet, after.unet)
    assert before.weights_sha256 == after.weights_sha256


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", ""])
def test_another_pipeline_is_refused_by_name(pipeline, name):
    (pipeline / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(CheckpointError) as e:
        stable_diffusion.load(str(pipeline))
    assert (name or "no named class") in str(e.value)
    assert "supported: StableDiffusionPipeline" in str(e.value)


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        f"vae/{DIFFUSERS}",
    ],
)
def test_a_missing_file_is_named(pipeline, missing):
    (pipeline / missing).unlink()
    with pytest.raises(CheckpointError, match=missing.split("/")[0]):
        stable_diffusion.load(str(pipeline))


def test_one_part_alone_is_no_pipeline():
    with pytest.raises(CheckpointError, match="model_index.json is missing"):
        stable_diffusion.load(folder("unet_sd1"))
