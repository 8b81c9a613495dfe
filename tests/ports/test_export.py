"""Every network lowers for GPU and TPU on a machine that has neither.

What is exported is StableHLO of plain operations: no kernel of one vendor's, and no
parameter inside the program. (Serialising it would need the package flatbuffers.)
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import arrays, folder
from jax import export

from ports import (
    clip,
    ddpm,
    dino,
    dinov2,
    dinov3,
    inception,
    lpips,
    stylegan2,
    unet,
    vae,
    vq,
)
from ports.conditioning import Condition
from ports.port import define

PLATFORMS = ("cuda", "tpu")


class Program(NamedTuple):
    """A function and the shapes of its arguments."""

    run: Callable[..., Any]
    args: Sequence[Any]


def of_golden(
    family: Any,
    case: str,
    inputs: Sequence[str],
    *,
    dtype: Any = jnp.float32,
    **how: Any,
) -> Program:
    """A committed checkpoint, on the inputs of its golden."""
    port, g = family.load(folder(case), dtype=dtype), arrays(case)
    args = jax.tree.map(_shape, (port.params, *(g[name] for name in inputs)))
    return Program(lambda params, *x: port.apply(params, *x, **how), args)


def conditioned(case: str) -> Program:
    """A UNet that takes a Condition."""
    port, g = unet.load(folder(case)), arrays(case)
    told = (g.get(name) for name in ("guidance_scale", "pooled", "time_ids"))
    inputs = (port.params, g["x"], g["t"], Condition(g["context"], *told))
    return Program(port.apply, jax.tree.map(_shape, inputs))


def prepared(case: str, rows: int = 1) -> Program:
    """A UNet with a condition made ready for some timesteps: both halves at once."""
    port, g = unet.load(folder(case)), arrays(case)
    told = [g.get(name) for name in ("guidance_scale", "pooled", "time_ids")]
    cond = jax.tree.map(lambda leaf: leaf[:rows], Condition(g["context"], *told))
    inputs = (port.params, g["x"], np.int32([981, 501, 1]), cond)

    def run(params, x, t, cond):
        ready = port.apply(params, cond, t, method="prepare")
        return port.apply(params, x, jnp.repeat(t[:1], len(x)), ready)

    return Program(run, jax.tree.map(_shape, inputs))


def wide_unet(dtype: Any) -> Program:
    """Wide and large enough for every form that a platform may choose."""
    config = unet.load(folder("unet_sd1")).config
    config = dataclasses.replace(config, block_out_channels=(32, 256), sample_size=32)
    params, apply = define(unet.UNet, config, dtype)
    x = jax.ShapeDtypeStruct((2, 32, 32, config.in_channels), dtype)
    t = jax.ShapeDtypeStruct((2,), jnp.int32)
    cond = jax.ShapeDtypeStruct((1, 77, config.cross_attention_dim), dtype)
    return Program(apply, (params, x, t, cond))


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype)


SQUARE = ("square_pixels",)
BFLOAT16 = {"dtype": jnp.bfloat16}
PROGRAMS: dict[str, Callable[[], Program]] = {
    "unet": lambda: of_golden(unet, "unet_sd1", ("x", "t", "context")),
    "unet bf16": lambda: of_golden(unet, "unet_sd1", ("x", "t", "context"), **BFLOAT16),
    "unet sd2": lambda: of_golden(unet, "unet_sd2", ("x", "t", "context")),
    "unet lcm": lambda: conditioned("unet_lcm"),
    "unet xl": lambda: conditioned("unet_xl"),
    "unet lcm prepared": lambda: prepared("unet_lcm"),
    "unet xl prepared": lambda: prepared("unet_xl", rows=2),
    "unet wide": lambda: wide_unet(jnp.float32),
    "unet wide bf16": lambda: wide_unet(jnp.bfloat16),
    "vae encode": lambda: of_golden(vae, "vae", ("images",), method="encode"),
    "vae decode": lambda: of_golden(vae, "vae", ("latents",), method="decode"),
    "vq encode": lambda: of_golden(vq, "vq", ("images",), method="encode"),
    "vq decode": lambda: of_golden(vq, "vq", ("latents",), method="decode"),
    "ddpm": lambda: of_golden(ddpm, "ddpm", ("x", "t")),
    "ddpm bf16": lambda: of_golden(ddpm, "ddpm_google", ("x", "t"), **BFLOAT16),
    "clip": lambda: of_golden(clip, "clip", ("pixels", "ids")),
    "clip bf16": lambda: of_golden(clip, "clip", ("pixels", "ids"), **BFLOAT16),
    "clip text": lambda: of_golden(clip, "clip_text", ("ids",), method="hidden_text"),
    "dino": lambda: of_golden(dino, "dino", SQUARE),
    "dinov2": lambda: of_golden(dinov2, "dinov2", SQUARE),
    "dinov2 registers": lambda: of_golden(dinov2, "dinov2_registers", SQUARE),
    "dinov3": lambda: of_golden(dinov3, "dinov3", SQUARE),
    "dinov3 bf16": lambda: of_golden(dinov3, "dinov3", SQUARE, **BFLOAT16),
    "stylegan2": lambda: of_golden(stylegan2, "stylegan2", ("z",)),
    "stylegan2 bf16": lambda: of_golden(stylegan2, "stylegan2", ("z",), **BFLOAT16),
    "inception": lambda: of_golden(inception, "inception", ("images",)),
    "lpips alex": lambda: of_golden(lpips, "lpips_alex", ("a", "b")),
    "lpips vgg": lambda: of_golden(lpips, "lpips_vgg", ("a", "b")),
    "lpips vgg bf16": lambda: of_golden(lpips, "lpips_vgg", ("a", "b"), **BFLOAT16),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_network_lowers_for_every_platform(name):
    run, args = PROGRAMS[name]()
    run = jax.jit(run)
    for platform in PLATFORMS:
        exported = export.export(run, platforms=(platform,))(*args)
        assert exported.platforms == (platform,)
        # Every argument, and nothing else that a closure held.
        given = [(x.shape, x.dtype) for x in jax.tree.leaves(args)]
        assert [(x.shape, x.dtype) for x in exported.in_avals] == given
        text = exported.mlir_module()
        assert largest_constant(text) < 2**20
        assert "custom_call" not in text


def test_a_program_has_the_form_of_its_platform():
    """Convolutions and whole attention there, matrix products and blocks here."""
    program = wide_unet(jnp.float32)
    text = {
        platform: lowered(jax.jit(program.run), program.args, platform)
        for platform in (*PLATFORMS, "cpu")
    }
    count = {k: v.count("stablehlo.convolution(") for k, v in text.items()}
    assert count["cuda"] == count["tpu"] > count["cpu"] > 0
    blocks = {k: v.count("stablehlo.while") for k, v in text.items()}
    assert blocks["cuda"] == blocks["tpu"] == 0 < blocks["cpu"]


def test_the_measure_sees_a_parameter_in_a_closure():
    table = np.random.default_rng(0).standard_normal((600, 500), np.float32)
    x = jax.ShapeDtypeStruct((600, 500), jnp.float32)
    closed = lowered(jax.jit(lambda x: x + jnp.asarray(table)), (x,), "cuda")
    assert largest_constant(closed) == table.nbytes
    passed = lowered(jax.jit(lambda x, table: x + table), (x, x), "cuda")
    assert largest_constant(passed) == 0


def lowered(run: Any, args: Sequence[Any], platform: str) -> str:
    return export.export(run, platforms=(platform,))(*args).mlir_module()


def largest_constant(text: str) -> int:
    """Bytes of the largest array that StableHLO spells out: in hex, or in a list."""
    spelt = re.findall(r'dense<(?:"0x([0-9A-F]*)"|(\[.*?\]))>', text)
    return max((len(raw) // 2 or 4 * row.count(",") for raw, row in spelt), default=0)
