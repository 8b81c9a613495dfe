"""Glow against torch, in all four kinds, by way of the converter.

The reference is plain torch (``scripts/reference_glow.py``), which agrees with
rosinality/glow-pytorch.
"""

import json

import jax
import numpy as np
import pytest
from closeness import rel
from live import from_torch, normal, to_torch, torch

from ports import glow
from scripts import convert_glow
from scripts.reference_glow import Glow, Shape, flat, parts

pytestmark = pytest.mark.torch
KINDS = {
    "additive, LU": {},
    "additive, plain": {"conv_lu": False},
    "affine, LU": {"affine": True},
    "affine, plain": {"affine": True, "conv_lu": False},
    "one level": {"n_block": 1, "size": 6},
    "three levels": {"n_block": 3, "size": 16, "hidden": 12, "n_flow": 1},
}


def reference(**changes):
    """Random weights, near enough to the initial ones that all can be inverted."""
    torch.manual_seed(0)
    model = Glow(Shape(**changes)).requires_grad_(False).eval()
    for p in model.parameters():
        p.add_(0.015 * torch.randn(p.shape))
    return model


def converted(model, folder, prefix="module."):
    """As train.py saves it (of a DataParallel), converted."""
    state = {prefix + k: v for k, v in model.state_dict().items()}
    torch.save(state, folder / "model.pt")
    convert_glow.main(
        convert_glow.Args(
            checkpoint=folder / "model.pt", out=folder / "glow", size=model.shape.size
        )
    )
    return glow.load(str(folder / "glow"))


@pytest.mark.parametrize("kind", KINDS)
def test_whole(tmp_path, kind):
    """Latents, densities, reconstructions and samples."""
    model = reference(**KINDS[kind])
    port = converted(model, tmp_path, prefix="module." if "LU" in kind else "")
    shape, config = model.shape, port.config
    assert (config.n_block, config.n_flow) == (shape.n_block, shape.n_flow)
    assert (config.affine, config.hidden) == (shape.affine, shape.hidden)
    apply = jax.jit(port.apply, static_argnames="method")
    x = normal(2, shape.size, shape.size, 3)
    zs, log_prob = model(to_torch(x) / 2)
    z = apply(port.params, x, method="encode")
    assert rel(z, flat(zs)) <= 2e-5
    got = apply(port.params, x, method="log_prob")
    np.testing.assert_allclose(got, log_prob, rtol=1e-5)
    assert rel(apply(port.params, z, method="decode"), x) <= 2e-5

    eps = normal(2, config.latent_dim, seed=1)
    expected = 2 * from_torch(model.back(parts(shape, to_torch(eps)), white=True))
    drawn = apply(port.params, eps, method="unwhiten")
    assert rel(apply(port.params, drawn, method="decode"), expected) <= 2e-5
    assert rel(apply(port.params, drawn, method="whiten"), eps) <= 2e-5


def test_gradients(tmp_path):
    """Of the density, to the image."""
    model = reference(affine=True)
    port = converted(model, tmp_path)
    x = normal(2, 8, 8, 3)
    density = jax.grad(lambda x: port.apply(port.params, x, method="log_prob").sum())
    theirs = to_torch(x).requires_grad_(True)
    model(theirs / 2)[1].sum().backward()
    assert rel(jax.jit(density)(x), from_torch(theirs.grad)) <= 2e-5


def test_the_converter_says_where_the_weights_come_from(tmp_path):
    converted(reference(), tmp_path)
    raw = json.loads((tmp_path / "glow" / "config.json").read_text())
    assert raw["source"]["file"] == "model.pt" and len(raw["source"]["sha256"]) == 64


def test_the_converter_refuses_what_it_is_not(tmp_path):
    def refused(state, message, size=8):
        torch.save(state, tmp_path / "model.pt")
        args = convert_glow.Args(
            checkpoint=tmp_path / "model.pt", out=tmp_path / "out", size=size
        )
        with pytest.raises(SystemExit, match=message):
            convert_glow.main(args)

    state = reference().state_dict()
    refused({"weight": torch.ones(3)}, "does not hold a Glow")
    refused(3, "does not hold tensors by name")
    refused(state, "10 pixels cannot be halved 2 times", size=10)
    unseen = {k: v * 0 if k.endswith("initialized") else v for k, v in state.items()}
    refused(unseen, "has not seen an image")
    refused(state | {"extra": torch.ones(1)}, "extra: unexpected tensor")
