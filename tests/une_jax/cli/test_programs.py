"""Programs are shared by what has one configuration, and by nothing else."""

import dataclasses

import jax
import numpy as np
import tiny_models

from ports import stable_diffusion, unet, vae
from ports.port import define
from une_jax import parallel
from une_jax.cli import programs


def test_equal_pipelines_share_what_was_compiled(tmp_path):
    one, other = (
        stable_diffusion.load(
            str(tiny_models.write_pipeline(tmp_path / str(i), seed=i))
        )
        for i in range(2)
    )
    mesh = parallel.data_mesh()
    first, second = (
        programs.pictures(sd.vae.apply, sd.vae.config, mesh) for sd in (one, other)
    )
    assert first is second
    assert programs.walks(one.unet.apply, mesh) is programs.walks(
        other.unet.apply, mesh
    )
    x0 = parallel.shard_batch(np.ones((mesh.size, 8, 8, 4), np.float32), mesh)
    a = np.asarray(first.decode(one.vae.params, x0))
    compiled = first.decode._cache_size()
    b = np.asarray(first.decode(other.vae.params, x0))
    assert first.decode._cache_size() == compiled
    assert not np.array_equal(a, b)  # the weights are arguments


def test_other_configurations_and_dtypes_do_not_share():
    _, apply = define(vae.AutoencoderKL, tiny_models.VAE)
    assert define(vae.AutoencoderKL, tiny_models.VAE)[1] is apply
    other = dataclasses.replace(tiny_models.VAE, norm_num_groups=2)
    assert define(vae.AutoencoderKL, other)[1] is not apply
    assert (
        define(vae.AutoencoderKL, tiny_models.VAE, jax.numpy.bfloat16)[1] is not apply
    )
    shapes, _ = define(unet.UNet, tiny_models.UNET)
    shapes.clear()  # a caller's own copy
    assert define(unet.UNet, tiny_models.UNET)[0]
