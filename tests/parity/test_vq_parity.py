"""VQModel against diffusers: latents, codes and images to 2e-5."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import (
    from_torch,
    normal,
    saved,
    scattered,
    shapes_of,
    to_torch,
    torch,
    torch_shapes,
)
from safetensors.numpy import load_file, save_file

from ports import vq
from ports.load import read_config
from ports.port import define, init

sys.path.insert(0, str(Path(__file__).parents[2]))  # scripts/ is no installed package

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.torch

WEIGHTS = "diffusion_pytorch_model.safetensors"
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
SMALL = dict(
    sample_size=16,
    block_out_channels=(8, 16),
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    layers_per_block=1,
    norm_num_groups=4,
    num_vq_embeddings=40,
)
VARIANTS = {
    # Latent diffusion's for faces of 256 pixels, but in size.
    "ldm": dict(
        block_out_channels=(8, 12, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
    ),
    "codes wider than latents": dict(vq_embed_dim=5),
    "bare": dict(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        mid_block_add_attention=False,
        in_channels=1,
        out_channels=2,
        latent_channels=4,
        vq_embed_dim=2,
    ),
}


def reference(**changes):
    torch.manual_seed(0)
    return scattered(diffusers.VQModel(**SMALL | changes))


def applied(port):
    return jax.jit(port.apply, static_argnames="method")


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole(tmp_path, variant):
    """Latents before and after quantisation, and images of odd size."""
    model = reference(**VARIANTS[variant])
    port = vq.load(saved(model, tmp_path))
    apply = applied(port)
    images = normal(2, 15, 18, port.config.in_channels)
    latents = model.encode(to_torch(images)).latents
    encoded = apply(port.params, images, method="encode")
    assert rel(encoded, from_torch(latents)) <= 2e-5

    codes, _, (_, _, indices) = model.quantize(latents)
    got, picked = apply(port.params, from_torch(latents), method="quantize")
    assert len(set(np.ravel(picked).tolist())) > 3
    np.testing.assert_array_equal(np.ravel(picked), np.ravel(indices.numpy()))
    # diffusers' are z + (e - z), ours e.
    assert rel(got, from_torch(codes)) <= 1e-6

    decoded = apply(port.params, from_torch(latents), method="decode")
    assert rel(decoded, from_torch(model.decode(latents).sample)) <= 2e-5
    again = from_torch(model(to_torch(images)).sample)
    assert rel(apply(port.params, images), again) <= 2e-5


def test_the_published_size_has_diffusers_parameters():
    """CompVis/ldm-celebahq-256's config: every name and shape, no weight in memory."""
    published = VARIANTS["ldm"] | dict(
        sample_size=256,
        block_out_channels=(128, 256, 512),
        norm_num_groups=32,
        num_vq_embeddings=8192,
    )
    with torch.device("meta"):
        model = diffusers.VQModel(**SMALL | published)
    shapes, _ = define(vq.VQModel, read_config(vq.Config, dict(model.config)))
    assert shapes_of(shapes) == torch_shapes(model)


def test_files_with_the_old_names_of_the_attention(tmp_path):
    """diffusers reads them with the same meaning, so both sides agree on the result."""
    folder = tmp_path / "new"
    port = vq.load(saved(reference(), folder))
    weights = load_file(folder / WEIGHTS)
    renamed = {}
    for name, value in weights.items():
        for new, old in OLD.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = value
    assert len(set(renamed) - set(weights)) == 16
    old = tmp_path / "old"
    old.mkdir()
    save_file(renamed, old / WEIGHTS)
    (old / "config.json").write_text((folder / "config.json").read_text())
    loaded = vq.load(str(old))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, port.params)
    again = diffusers.VQModel.from_pretrained(old, low_cpu_mem_usage=False)
    again.requires_grad_(False)
    latents = normal(1, 4, 4, 3)
    expected = from_torch(again.decode(to_torch(latents)).sample)
    assert rel(applied(loaded)(loaded.params, latents, method="decode"), expected) <= (
        2e-5
    )


def test_bfloat16_stays_near_float32(tmp_path):
    """Of codes: half precision picks another where two are as near."""
    model = reference()
    half = vq.load(saved(model, tmp_path), dtype=jnp.bfloat16)
    codes, *_ = model.quantize(to_torch(normal(2, 5, 3, 3)))
    got = applied(half)(half.params, from_torch(codes), method="decode")
    assert got.dtype == jnp.bfloat16
    expected = from_torch(model.decode(codes).sample)
    assert rel(got.astype(jnp.float32), expected) < 3e-2


def test_diffusers_loads_what_the_miniature_writes(tmp_path):
    """Every tensor under its name and in its shape, and the same images out."""
    from scripts.miniature import export
    from scripts.miniature.vq import CONFIG

    port = init(vq.VQModel, CONFIG, jax.random.key(0))
    export.diffusers_model(tmp_path, "VQModel", CONFIG, port.params)
    model, info = diffusers.VQModel.from_pretrained(tmp_path, output_loading_info=True)
    model.requires_grad_(False)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "error_msgs"))
    theirs = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    ours = {name: x.shape for name, x in load_file(tmp_path / WEIGHTS).items()}
    assert ours == theirs
    loaded, images = vq.load(str(tmp_path)), normal(1, 64, 64, 3)
    expected = from_torch(model(to_torch(images)).sample)
    assert rel(applied(loaded)(loaded.params, images), expected) <= 2e-5
