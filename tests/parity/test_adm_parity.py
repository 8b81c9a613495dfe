"""ADM and improved DDPM against torch, by way of the converter.

The reference is plain torch (``scripts/reference_adm.py``), with guided-diffusion's names.
"""

import json

import jax
import numpy as np
import pytest
from closeness import rel
from live import from_torch, normal, scattered, to_torch, torch

from ports import ddpm
from scripts import convert_adm
from scripts.reference_adm import Shape, UNet

pytestmark = pytest.mark.torch
KINDS = {
    "ADM": {},
    "ADM with labels, three levels": {
        "channel_mult": (1, 1, 2),
        "attention_levels": (1, 2),
        "num_res_blocks": 2,
        "classes": 5,
    },
    "attention below the last level alone": {
        "channel_mult": (1, 2, 2),
        "attention_levels": (1,),
        "new_attention_order": True,
    },
    "improved DDPM": {"resblock_updown": False},
    "plain": {
        "resblock_updown": False,
        "use_scale_shift_norm": False,
        "learn_sigma": False,
        "attention_levels": (),
    },
    "one level": {"channel_mult": (1,), "attention_levels": (0,)},
}


def reference(**changes):
    torch.manual_seed(0)
    return scattered(UNet(Shape(**changes)))


def args_of(folder, model, **changes):
    order = "new" if model.shape.new_attention_order else "legacy"
    usual = {"head_channels": 16, "attention_order": order, "size": 8}
    return convert_adm.Args(
        checkpoint=folder / "model.pt", out=folder / "out", **usual | changes
    )


def converted(model, folder, *, prefix="", **changes):
    state = {prefix + k: v for k, v in model.state_dict().items()}
    torch.save(state, folder / "model.pt")
    convert_adm.main(args_of(folder, model, **changes))
    return ddpm.load_pipeline(str(folder / "out"))


@pytest.mark.parametrize("kind", KINDS)
def test_whole(tmp_path, kind):
    model = reference(**KINDS[kind])
    loaded = converted(model, tmp_path, prefix="module." if kind == "ADM" else "")
    x, t = normal(2, 8, 8, 3), np.array([3, 981], np.int32)
    labels = np.array([4, 1], np.int32) if model.shape.classes else None
    told = () if labels is None else (to_torch(labels),)
    expected = from_torch(model(to_torch(x), to_torch(t), *told))
    got = jax.jit(loaded.unet.apply)(loaded.unet.params, x, t, labels)
    assert got.shape == expected.shape and rel(got, expected) <= 2e-5


def test_diffusers_loads_what_is_converted(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    model = reference()
    converted(model, tmp_path, noise="cosine")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert pipeline.scheduler.config.variance_type == "learned_range"
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    x, t = to_torch(normal(1, 8, 8, 3)), torch.tensor([40])
    theirs = pipeline.unet.requires_grad_(False)(x, t).sample
    assert rel(from_torch(theirs), from_torch(model(x, t))) <= 1e-5


def test_a_number_of_heads_and_where_the_weights_come_from(tmp_path):
    loaded = converted(
        reference(attention_levels=()), tmp_path, heads=4, head_channels=None
    )
    assert loaded.unet.config.attention_head_dim == 16  # of the middle's 64
    raw = json.loads((tmp_path / "out/unet/config.json").read_text())
    assert raw["source"]["file"] == "model.pt" and len(raw["source"]["sha256"]) == 64


def test_the_converter_refuses_what_it_is_not(tmp_path):
    model = reference(attention_levels=(0, 1))

    def refused(state, message, **changes):
        torch.save(state, tmp_path / "model.pt")
        with pytest.raises(SystemExit, match=message):
            convert_adm.main(args_of(tmp_path, model, **changes))

    state = model.state_dict()
    refused({"weight": torch.ones(3)}, "does not hold a UNet of guided-diffusion")
    refused(3, "does not hold tensors by name")
    refused(state, "2 heads are of 16 and 32 channels", heads=2, head_channels=None)
    refused(state, "give --head-channels or --heads", heads=2)
    refused(state | {"extra": torch.ones(1)}, "extra: unexpected tensor")
    refused(state, "attention_head_dim = 24 does not divide 32", head_channels=24)
