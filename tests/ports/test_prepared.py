"""A prepared condition says what the plain one says, and is computed once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import arrays, folder

from ports import unet
from ports.conditioning import Condition, for_batch
from ports.port import Port
from une_jax import parallel

CASES = ("unet_sd1", "unet_sd2", "unet_lcm", "unet_xl")
TABLE = np.array([981, 501, 21, 1], np.int32)
# The same products over other numbers of rows: float32's last bits, seen 3e-7.
ROUNDING = 2e-6


class Case(NamedTuple):
    port: Port
    x: np.ndarray
    cond: Any


def case(name: str, rows: int, *, dtype: Any = jnp.float32) -> Case:
    """A golden's network; latents of 4 images and a condition of these rows."""
    rng = np.random.default_rng(0)
    port = unet.load(folder(name), dtype=dtype)
    config = port.config

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    context = normal(rows, 5, config.cross_attention_dim)
    x, cond = normal(4, 8, 8, config.in_channels), context
    if config.time_cond_proj_dim:
        cond = Condition(context, 1 + jnp.abs(normal(rows)))
    elif config.addition_embed_type:
        width = arrays(name)["pooled"].shape[1]
        cond = Condition(context, None, normal(rows, width), 100 * normal(rows, 6))
    return Case(port, np.asarray(x), cond)


@pytest.fixture(autouse=True)
def quick_compiles():
    """Less optimised programs, in half the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def prepared(port: Port, cond: Any, t: Any = TABLE) -> Any:
    run = jax.jit(lambda params: port.apply(params, cond, t, method="prepare"))
    return run(port.params)


@pytest.mark.parametrize(
    ("name", "rows"),
    (
        *(("unet_sd1", 1), ("unet_sd1", 2), ("unet_sd2", 4)),
        *(("unet_lcm", 1), ("unet_lcm", 4), ("unet_xl", 1), ("unet_xl", 2)),
    ),
)
def test_a_prepared_condition_is_the_condition(name, rows):
    """One for all, one for each half of the batch, or each sample its own; each
    sample at its own timestep, in any order."""
    port, x, cond = case(name, rows)
    own = jax.tree.map(lambda leaf: for_batch(leaf, 4), cond)

    @jax.jit
    def both(params, t):
        ready = port.apply(params, cond, TABLE, method="prepare")
        return [port.apply(params, x, t, told) for told in (own, ready)]

    for t in (np.full(4, 501, np.int32), TABLE[[3, 0, 0, 2]]):
        plain, out = both(port.params, t)
        assert rel(out, plain) <= ROUNDING


def test_bfloat16_rounds_no_more():
    port, x, cond = case("unet_lcm", 1, dtype=jnp.bfloat16)
    exact = case("unet_lcm", 1).port
    t = np.full(4, 981, np.int32)

    def run(port, cond):
        out = jax.jit(port.apply)(port.params, x, t, cond)
        return np.asarray(out.astype(jnp.float32))

    right = run(exact, cond)
    plain, ready = (run(port, c) for c in (cond, prepared(port, cond)))
    assert 0 < rel(ready, right) < 1.5 * rel(plain, right)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(prepared(port, cond).layers)}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}


def test_a_timestep_of_no_table_is_nan_and_never_a_number():
    port, x, cond = case("unet_sd1", 1)
    t = np.array([981, 980, 1, 0], np.int32)
    out = jax.jit(port.apply)(port.params, x, t, prepared(port, cond))
    out = np.asarray(out)
    assert np.isfinite(out[[0, 2]]).all() and np.isnan(out[[1, 3]]).all()


def test_conditions_that_do_not_divide_the_batch_are_an_error():
    port, x, cond = case("unet_sd1", 3)
    for told in (cond, prepared(port, cond)):
        with pytest.raises(ValueError, match="3 conditions do not divide a batch of 4"):
            port.apply(port.params, x, np.full(4, 1, np.int32), told)


def test_a_condition_is_checked_when_it_is_prepared():
    port, _, cond = case("unet_lcm", 1)
    with pytest.raises(ValueError, match="embeds a guidance scale"):
        prepared(port, cond.context)


def test_vmap_grad_and_devices():
    """Over conditions, through a condition, and split over a mesh."""
    port, x, cond = case("unet_lcm", 4)

    def run(params, batch):
        ready = port.apply(params, batch["cond"], TABLE, method="prepare")
        return port.apply(params, batch["x"], TABLE, ready)

    def plain(cond):
        return port.apply(port.params, x, TABLE, cond)

    def ready(cond):
        return run(port.params, {"x": x, "cond": cond})

    right = jax.jit(plain)(cond)
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), cond)
    assert rel(jax.jit(jax.vmap(ready))(two)[0], right) <= ROUNDING

    gradients = [
        jax.jit(jax.grad(lambda cond, f=f: jnp.sum(f(cond) ** 2)))(cond)
        for f in (plain, ready)
    ]
    for got, wanted in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert rel(got, wanted) <= 1e-5

    mesh = parallel.data_mesh()

    def on_device(params, batch):  # each of the four with one image and its timestep
        told = port.apply(params, batch["cond"], TABLE, method="prepare")
        return port.apply(params, batch["x"], batch["t"], told)

    batch = parallel.shard_batch({"x": x, "t": TABLE, "cond": cond}, mesh)
    split = parallel.data_parallel(on_device, mesh)(port.params, batch)
    assert rel(split, right) <= ROUNDING


@pytest.mark.parametrize("name", CASES)
def test_no_step_repeats_what_was_prepared(name):
    """Each step is spared every cross-attention's keys and values, every resnet's
    offset and the time embedding's own products."""
    port, x, cond = case(name, 1)

    def walk(told):
        def body(x, t):
            t = jnp.broadcast_to(t, x.shape[:1])
            return port.apply(port.params, x, t, told(cond)), None

        return jax.lax.scan(body, x, jnp.asarray(TABLE))[0]

    plain = products_in_scan(lambda: walk(lambda cond: cond))
    ready = prepared(port, cond)
    spared = plain - products_in_scan(lambda: walk(lambda _: ready))
    texts = sum(len(told.text) for block in ready.layers for told in block)
    resnets = sum(map(len, ready.layers))
    embeddings = 2  # the MLP of the timestep, and what else is embedded
    embeddings += 1 if port.config.time_cond_proj_dim else 0
    embeddings += 2 if port.config.addition_embed_type else 0
    assert texts > 0 and spared == 2 * texts + resnets + embeddings


def products_in_scan(fn: Any) -> int:
    """Matrix products in the body of the function's scan."""
    (scan,) = (e for e in jax.make_jaxpr(fn)().eqns if e.primitive.name == "scan")
    return products(scan.params["jaxpr"].jaxpr)


def products(jaxpr: Any) -> int:
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "dot_general"
        for param in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")
        ):
            inner = getattr(param, "jaxpr", None)
            count += products(inner) if inner is not None else 0
    return count
