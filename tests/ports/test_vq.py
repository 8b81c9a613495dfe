"""VQModel: re-quantisation, its gradient, other spellings of its files."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import arrays, copy, folder, tensors

from ports import vq
from ports.checkpoint import CheckpointError
from ports.port import init

sys.path.insert(0, str(Path(__file__).parents[2]))  # scripts/ is no installed package

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def port():
    return vq.load(folder("vq"))


@pytest.fixture(scope="module")
def apply(port):
    return jax.jit(port.apply, static_argnames="method")


def distances(port, latents):
    """Of every latent to every entry of the codebook, in float64."""
    book = np.asarray(port.params["quantize"]["embedding"]["weight"])
    return np.square(np.asarray(latents, np.float64)[..., None, :] - book).sum(-1)


def test_quantised_latents_are_the_nearest_entries_of_the_codebook(port, apply):
    latents = arrays("vq")["latents"]
    codes, indices = apply(port.params, latents, method="quantize")
    far = distances(port, latents)
    np.testing.assert_array_equal(indices, far.argmin(-1))
    book = np.asarray(port.params["quantize"]["embedding"]["weight"])
    np.testing.assert_array_equal(codes, book[indices])
    assert len(np.unique(indices)) > 5


def test_far_from_the_origin_the_nearest_is_still_found(port, apply):
    """Where |z|² would drown the differences, were it not left out."""
    far = arrays("vq")["latents"] + np.array([300, 0, 0, 0], np.float32)
    _, indices = apply(port.params, far, method="quantize")
    np.testing.assert_array_equal(indices, distances(port, far).argmin(-1))


def test_decoding_quantises_and_quantised_latents_stay(port, apply):
    latents = arrays("vq")["latents"]
    codes, indices = apply(port.params, latents, method="quantize")
    again, same = apply(port.params, codes, method="quantize")
    np.testing.assert_array_equal(again, codes)
    np.testing.assert_array_equal(same, indices)
    images = apply(port.params, latents, method="decode")
    assert images.shape == (2, 10, 6, 3)
    np.testing.assert_array_equal(images, apply(port.params, codes, method="decode"))
    # As near as not to change the entry: the image is the same to the last bit.
    nudged = latents + 1e-3 * (np.asarray(codes) - latents)
    np.testing.assert_array_equal(images, apply(port.params, nudged, method="decode"))


def test_a_call_is_decode_of_encode(port, apply):
    images = arrays("vq")["images"]
    latents = apply(port.params, images, method="encode")
    expected = apply(port.params, latents, method="decode")
    np.testing.assert_array_equal(apply(port.params, images), expected)


def test_the_gradient_passes_the_codebook_straight_through(port):
    latents = jnp.asarray(arrays("vq")["latents"])
    codes, _ = port.apply(port.params, latents, method="quantize")
    weights = jax.random.normal(jax.random.key(0), codes.shape)

    def of_codes(params, z):
        return (weights * port.apply(params, z, method="quantize")[0]).sum()

    by_params, by_latents = jax.grad(of_codes, argnums=(0, 1))(port.params, latents)
    np.testing.assert_array_equal(by_latents, weights)
    assert all(not np.any(g) for g in jax.tree.leaves(by_params))

    def of_images(z):
        return jnp.square(port.apply(port.params, z, method="decode")).sum()

    np.testing.assert_array_equal(jax.grad(of_images)(latents), jax.grad(of_images)(codes))  # fmt: skip


def test_gradients_are_finite_everywhere(port):
    images = jnp.zeros((1, 8, 8, 3))  # a constant image: no variance in the norms

    def loss(params, x):
        return jnp.square(port.apply(params, x) - 1).mean()

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(port.params, images)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert float(jnp.abs(grads[1]).max()) > 0  # and the encoder has some


def test_nan_stays_nan(port, apply):
    """No entry of the codebook hides that a latent is broken."""
    latents = np.array(arrays("vq")["latents"])
    latents[0, 2, 1, 3] = np.nan
    codes, _ = apply(port.params, latents, method="quantize")
    assert np.isnan(codes).sum() == 1
    assert np.isnan(apply(port.params, latents, method="decode")[0]).all()


def test_one_latent_a_row_under_vmap(port, apply):
    latents = jnp.asarray(arrays("vq")["latents"])
    one = jax.vmap(lambda z: port.apply(port.params, z[None], method="decode")[0])
    assert rel(one(latents), apply(port.params, latents, method="decode")) <= 1e-5


@pytest.mark.parametrize("convolution", [False, True])
def test_old_names_of_the_attention(port, tmp_path, convolution):
    """Linear layers, or the 1x1 convolutions of the first conversions."""
    weights = {}
    for name, value in tensors("vq").items():
        for new, old in OLD.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        conv = convolution and "attentions.0" in name and value.ndim == 2
        weights[name] = value[:, :, None, None] if conv else value
    loaded = vq.load(copy("vq", tmp_path, weights))
    jax.tree.map(np.testing.assert_array_equal, loaded.params, port.params)


def test_a_codebook_of_another_size_is_refused(tmp_path):
    weights = tensors("vq")
    name = "quantize.embedding.weight"
    weights[name] = weights[name][:-1]
    with pytest.raises(CheckpointError, match=rf"{name}: shape \(23, 4\).*\(24, 4\)"):
        vq.load(copy("vq", tmp_path, weights))
    del weights[name]
    with pytest.raises(CheckpointError, match=f"{name}: missing tensor"):
        vq.load(copy("vq", tmp_path, weights))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_type": "spatial"}, "norm_type = 'spatial' is not supported"),
        ({"act_fn": "relu"}, "act_fn = 'relu'"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "AttnDownEncoderBlock"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 2}, "AttnUpDecoderBlock2D"),
        ({"_class_name": "AutoencoderKL"}, "holds a AutoencoderKL, not a VQModel"),
    ],
)
def test_a_config_of_another_network_is_refused(tmp_path, changes, message):
    path = Path(copy("vq", tmp_path))
    raw = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(CheckpointError, match=message) as e:
        vq.load(str(path))
    assert "\n" not in str(e.value)


def test_codes_are_as_wide_as_latents_where_nothing_is_said():
    assert vq.Config(latent_channels=5).width == 5
    assert vq.Config(latent_channels=5, vq_embed_dim=2).width == 2


def test_what_the_miniature_writes_loads_as_its_rounded_parameters(tmp_path):
    """The codebook among them, which is two-dimensional and not to be transposed."""
    from scripts.miniature import export

    config = vq.Config(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=9)
    trained = init(vq.VQModel, config, jax.random.key(0)).params
    export.diffusers_model(tmp_path, "VQModel", config, trained)
    loaded = vq.load(str(tmp_path))
    assert loaded.config == config
    halves = jax.tree.map(np.float16, trained)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, halves)
