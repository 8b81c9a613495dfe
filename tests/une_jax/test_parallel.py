"""The parallel loop equals the plain one and pmap's, and stays silent on the wire."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from une_jax import ddim
from une_jax.parallel import (
    data_mesh,
    data_parallel,
    memory_schedule,
    pad_batch,
    replicate,
    shard_batch,
)
from une_jax.schedule import Schedule

COLLECTIVE = re.compile(
    "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
)


def net(params, x, t, cond):
    """Convolution, group norm, attention with the plain reshape, and a time shift."""
    b, h, w, c = x.shape
    x = jax.lax.conv_general_dilated(
        x, params["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    groups = x.reshape(b, h, w, 2, c // 2)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    std = groups.std(axis=(1, 2, 4), keepdims=True)
    q = ((groups - mean) / (std + 1e-3)).reshape(b, h * w, 2, c // 2)
    x = jax.nn.dot_product_attention(q, q, q).reshape(b, h, w, c)
    return jnp.tanh(x + params["time"][t][:, None, None, None] + cond)


def invert(params, batch):
    return ddim.invert_with_residual(
        net, params["net"], batch["x"], params["schedule"], params["cond"]
    )


@pytest.fixture
def params(key):
    conv, time = jax.random.split(key)
    return {
        "net": {
            "conv": 0.1 * jax.random.normal(conv, (3, 3, 8, 8)),
            "time": jax.random.normal(time, (1000,)),
        },
        "schedule": Schedule.from_config({}, steps=6, eval_at="source"),
        "cond": jnp.float32(0.1),
    }


@pytest.fixture
def batch():
    x = np.random.default_rng(0).standard_normal((8, 4, 4, 8)).astype(np.float32)
    return {"x": x}


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_equals_the_plain_function_and_pmap(devices, params, batch):
    mesh = data_mesh(jax.devices()[:devices])
    placed = shard_batch(batch, mesh)
    out = data_parallel(invert, mesh)(replicate(params, mesh), placed)

    plain = jax.jit(invert)(params, batch)
    folded = batch["x"].reshape(devices, 8 // devices, 4, 4, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pmapped = jax.pmap(invert, in_axes=(None, 0), devices=jax.devices()[:devices])(
            params, {"x": folded}
        )
    for got, want, old in zip(out, plain, pmapped, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got, np.asarray(old).reshape(got.shape), rtol=1e-6)

    split = NamedSharding(mesh, PartitionSpec("data"))
    for array in (placed["x"], *out):
        assert array.sharding.is_equivalent_to(split, array.ndim)
        assert array.addressable_shards[0].data.shape[0] == 8 // devices


def test_no_collective_in_a_whole_inversion(params, batch):
    mesh = data_mesh()
    args = replicate(params, mesh), shard_batch(batch, mesh)
    assert mesh.shape["data"] == 4
    text = data_parallel(invert, mesh).lower(*args).compile().as_text()
    assert not COLLECTIVE.search(text)
    # The same search does find one where there is one.
    mean = jax.jit(lambda x: x.mean()).lower(args[1]["x"]).compile().as_text()
    assert COLLECTIVE.search(mean)


def test_each_device_stops_its_while_loop_by_itself():
    """A loop whose length depends on the data needs no lock step either."""
    mesh = data_mesh()

    def halve(limit, x):
        return jax.lax.while_loop(lambda x: (x > limit).any(), lambda x: x / 2, x)

    x = shard_batch(np.array([1, 2, 4, 8], np.float32), mesh)
    run = data_parallel(halve, mesh)
    text = run.lower(jnp.float32(1), x).compile().as_text()
    assert not COLLECTIVE.search(text)
    np.testing.assert_array_equal(run(jnp.float32(1), x), [1, 1, 1, 1])


def test_a_padded_tail_does_not_recompile_and_changes_no_row(params, batch):
    mesh = data_mesh()
    run = data_parallel(invert, mesh)
    params = replicate(params, mesh)
    whole = run(params, shard_batch(batch, mesh))
    tail, mask = pad_batch({"x": batch["x"][:5]}, 8)
    out = run(params, shard_batch(tail, mesh))
    assert run._cache_size() == 1
    np.testing.assert_array_equal(np.asarray(out.x_T)[mask], whole.x_T[:5])


def test_params_are_arguments_and_never_constants():
    mesh = data_mesh()
    weight = jnp.ones((1100, 1100), jnp.float32)  # 4.8 MB
    batch = shard_batch(np.ones((4, 1100), np.float32), mesh)

    def constants(lowered):
        """Bytes of every tensor constant (splats, stored as one number, aside)."""
        found = re.findall(
            r"constant dense<([^>]*)> : tensor<([\dx]+)x[a-z]+(\d+)>", lowered.as_text()
        )
        return [
            int(np.prod([int(n) for n in shape.split("x")])) * int(bits) // 8
            for value, shape, bits in found
            if value.startswith(('"', "["))
        ]

    run = data_parallel(lambda w, x: x @ w, mesh)
    assert max(constants(run.lower(weight, batch)), default=0) < 2**20
    # The same search does find a weight that was closed over.
    varied = weight.at[0, 0].set(2.0)
    closed = jax.jit(lambda x: x @ np.asarray(varied)).lower(batch)
    assert max(constants(closed)) > 4 * 2**20


def test_donated_batch_is_gone(batch):
    mesh = data_mesh()
    kept = shard_batch(batch, mesh)
    data_parallel(lambda s, b: {"x": s * b["x"]}, mesh)(2.0, kept)
    assert not kept["x"].is_deleted()
    data_parallel(lambda s, b: {"x": s * b["x"]}, mesh, donate_batch=True)(2.0, kept)
    assert kept["x"].is_deleted()


def test_replicate_gives_every_device_a_whole_copy(params):
    tree = replicate(params, data_mesh())
    for leaf in jax.tree.leaves(tree):
        assert leaf.is_fully_replicated and len(leaf.addressable_shards) == 4


def test_pad_batch_repeats_the_last_row():
    batch = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "index": np.arange(3)}
    padded, mask = pad_batch(batch, 5)
    np.testing.assert_array_equal(padded["index"], [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(padded["x"][3:], [[4, 5], [4, 5]])
    np.testing.assert_array_equal(mask, [True, True, True, False, False])
    assert padded["x"].dtype == np.float32
    full, mask = pad_batch(batch, 3)
    np.testing.assert_array_equal(full["x"], batch["x"])
    assert mask.all()


@pytest.mark.parametrize(
    "batch, says",
    [
        (np.ones((5, 2)), "cannot pad 5 rows to 4"),
        (np.ones((0, 2)), "cannot pad 0 rows to 4"),
        ({"a": np.ones(2), "b": np.ones(3)}, r"\[2, 3\] rows"),
    ],
)
def test_pad_batch_refuses(batch, says):
    with pytest.raises(ValueError, match=says):
        pad_batch(batch, 4)


def test_shard_batch_refuses_rows_that_do_not_divide():
    with pytest.raises(ValueError, match="6 rows do not divide by 4 devices"):
        shard_batch(np.ones((6, 2)), data_mesh())


def test_the_cpu_schedule_does_not_begin_everything_at_once():
    """Eight products of 4 MB, each summed at once: their results need not coexist."""

    def total(params, x):
        products = [jnp.sin(params[i] @ params[i + 1]) for i in range(8)]
        return x + sum(y.sum() for y in products)

    params, x = jnp.ones((9, 1024, 1024)), jnp.ones((4, 1))
    mesh = data_mesh()
    options = memory_schedule("cpu")
    lowered = data_parallel(total, mesh, compiler_options=options).lower(params, x)
    temporary = lowered.compile().memory_analysis().temp_size_in_bytes
    plain = jax.jit(total).lower(params, x).compile().memory_analysis()
    assert temporary < plain.temp_size_in_bytes
    assert memory_schedule("tpu") is None


def test_the_result_composes_with_a_jit_and_a_scan_of_ones_own():
    mesh = data_mesh()
    double = data_parallel(lambda scale, x: scale * x, mesh)

    @jax.jit
    def eight_times(x):
        return jax.lax.scan(lambda x, _: (double(2.0, x), None), x, length=3)[0]

    np.testing.assert_array_equal(eight_times(np.ones((4, 1))), 8 * np.ones((4, 1)))
