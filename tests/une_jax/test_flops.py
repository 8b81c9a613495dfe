"""FLOPs are those of the mathematics, and nothing runs to count them."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from une_jax import flops, parallel

F32 = jnp.float32


def shape(*axes):
    return jax.ShapeDtypeStruct(axes, F32)


def test_products_count_a_multiplication_and_an_addition():
    batched = (shape(6, 4, 8), shape(6, 8, 5))
    assert flops.count(jnp.matmul, *batched) == 2 * 6 * 4 * 8 * 5
    both = lambda x, w: jnp.einsum("abi,ijc->abjc", x, w)  # noqa: E731
    assert flops.count(both, shape(2, 3, 7), shape(7, 5, 4)) == 2 * 2 * 3 * 5 * 4 * 7


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_count_each_output_by_its_patch(groups):
    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x, w = shape(2, 8, 8, 6), shape(3, 3, 6 // groups, 10)
    assert flops.count(conv, x, w) == 2 * (2 * 4 * 4 * 10) * (3 * 3 * 6 // groups)


def test_loops_and_jitted_parts_count_as_often_as_they_run():
    @jax.jit
    def walk(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=7)[0]

    assert flops.count(walk, shape(4, 4), shape(4, 4)) == 7 * 2 * 4**3


def test_of_a_form_for_each_platform_the_largest_counts():
    def product(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: x + 1, default=lambda x: x @ x
        )

    assert flops.count(product, shape(4, 4)) == 2 * 4**3


def test_parallel_programs_count_all_devices():
    mesh = parallel.data_mesh()
    double = jax.shard_map(
        lambda x: x @ jnp.ones((3, 3)),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
    )
    assert mesh.size == 4
    assert flops.count(double, shape(8, 3)) == 2 * 8 * 3 * 3


def test_a_unet_counts_what_its_layers_do():
    """SD 1.5 at 64x64 latents: 803 GFLOP, as torch's own counter finds (README)."""
    from ports import unet
    from ports.port import define

    config = unet.Config(cross_attention_dim=768)
    shapes, apply = define(unet.UNet, config)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    counted = flops.count(apply, shapes, shape(1, 64, 64, 4), t, shape(1, 77, 768))
    assert counted == pytest.approx(803.27e9, rel=1e-4)
