"""DiffuseVAE's ResNet VAE against torch, by way of the converter.

The reference is plain torch (``scripts/reference_resnet_vae.py``), which agrees with
kpandey008/DiffuseVAE.
"""

import sys
import types

import jax
import jax.numpy as jnp
import pytest
from closeness import rel
from live import from_torch, normal, scattered, to_torch, torch

from ports import resnet_vae
from scripts import convert_resnet_vae
from scripts.reference_resnet_vae import ResNetVAE

pytestmark = pytest.mark.torch
# The published strings of CIFAR-10 with fewer repetitions, and one of every entry.
SHAPES = {
    "cifar": (
        32,
        "32x2,32d2,32t16,16x1,16d2,16t8,8x1,8d2,8t4,4x1,4d4,4t1,1x3",
        "1x1,1u4,1t4,4x2,4u2,4t8,8x1,8u2,8t16,16x1,16u2,16t32,32x2",
        "32:64,16:32,8:24,4:24,1:20",
        "32:16,16:32,8:24,4:24,1:20",
    ),
    "odd": (
        12,
        "12,12d3,12t4,4d4,4t1",
        "1u4,1t4,4u3,4t12",
        "12:6,4:10,1:7",
        "12:4,4:6,1:7",
    ),
}


def checkpoint(model, file, **changes):
    """As Lightning saves it, with objects of its own classes."""
    modules, classes = {}, {}
    for name, base in (
        ("utilities.parsing.AttributeDict", dict),
        ("callbacks.model_checkpoint.ModelCheckpoint", object),
    ):
        path, _, leaf = f"pytorch_lightning.{name}".rpartition(".")
        classes[leaf] = type(leaf, (base,), {"__module__": path, "__qualname__": leaf})
        for i in range(1, len(path.split(".")) + 1):
            part = ".".join(path.split(".")[:i])
            modules.setdefault(part, types.ModuleType(part))
        setattr(modules[path], leaf, classes[leaf])
    stated = classes["AttributeDict"](model.hyper_parameters(), alpha=1.0, lr=1e-4)
    found = {
        "state_dict": model.state_dict(),
        "hyper_parameters": stated,
        "callbacks": {classes["ModelCheckpoint"]: {"best": torch.ones(1)}},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save(found | changes, file)


def converted(folder, model, **changes):
    checkpoint(model, folder / "vae.ckpt", **changes)
    convert_resnet_vae.main(
        convert_resnet_vae.Args(checkpoint=folder / "vae.ckpt", out=folder / "vae")
    )
    return resnet_vae.load(str(folder / "vae"))


@pytest.mark.parametrize("shape", SHAPES)
def test_whole(tmp_path, shape):
    torch.manual_seed(0)
    model = scattered(ResNetVAE(*SHAPES[shape]))
    port = converted(tmp_path, model)
    apply = jax.jit(port.apply, static_argnames="method")
    size = port.config.input_res
    images = normal(2, size, size, 3)
    mean, logvar = apply(port.params, images, method="moments")
    for got, expected in zip(
        (mean, logvar), model.encode(to_torch(images) / 2 + 0.5), strict=True
    ):
        assert rel(got, expected.flatten(1)) <= 2e-5
    z = normal(2, port.config.latent_dim, seed=1)
    expected = 2 * from_torch(model.decode(to_torch(z)[:, :, None, None])) - 1
    assert rel(apply(port.params, jnp.asarray(z), method="decode"), expected) <= 2e-5


def test_the_vae_within_a_checkpoint_of_the_second_stage(tmp_path):
    model = scattered(ResNetVAE(*SHAPES["odd"]))
    state = {f"vae.{k}": v for k, v in model.state_dict().items()}
    state |= {"online_network.decoder.weight": torch.ones(2)}
    port = converted(tmp_path, model, state_dict=state)
    assert port.config.latent_dim == 7


def test_the_converter_refuses_what_it_is_not(tmp_path):
    model = ResNetVAE(*SHAPES["odd"])

    def refused(message, **changes):
        with pytest.raises(SystemExit, match=message):
            converted(tmp_path, model, **changes)

    refused("does not hold a VAE", state_dict={"weight": torch.ones(1)})
    refused("give --input-res, --enc-block-str", hyper_parameters={})
    strings = model.hyper_parameters() | {"enc_block_str": "12d5"}
    refused("pools 12 pixels by 5", hyper_parameters=strings)
    refused(
        "unexpected tensor", state_dict=model.state_dict() | {"enc.x": torch.ones(1)}
    )


def test_a_file_that_runs_code_is_not_opened(tmp_path):
    """weights_only: torch refuses a pickle of anything else."""
    model = ResNetVAE(*SHAPES["odd"])
    with pytest.raises(SystemExit, match="cannot be read: UnpicklingError"):
        converted(tmp_path, model, callbacks={"x": tmp_path})
