"""A row's noise is its own, whatever walks beside it: by all four ways to invert.

Bit for bit where the batch has one shape; in batches of other shapes, or over more
devices, within the rounding of the model's own products (``ROUNDING``). A row that
stops being finite says so, and no other row's bits know of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import ddim, dpm_encoder, exact, fixed_point, parallel
from une_jax.schedule import Schedule

N, SHAPE, STEPS = 8, (4, 4, 2), 6
SCHEDULE = Schedule.from_config(SD, steps=STEPS, eval_at="source")
METHODS = ("ddim", "fixed-point", "exact", "dpm-encoder")
# Of the largest number or 1, after six steps: float32 products in another order.
ROUNDING = 1e-5


@pytest.fixture(autouse=True)
def quick(quick_compiles):
    """Compiling is most of what these tests do."""


class Rows(NamedTuple):
    """A batch: latents, the rows' numbers, and the timestep at which each breaks."""

    x0: jax.Array
    number: jax.Array
    breaks: jax.Array

    def take(self, places: Any) -> "Rows":
        return jax.tree.map(lambda leaf: leaf[np.asarray(places)], self)


def rows() -> Rows:
    x0 = jax.random.normal(jax.random.key(1), (N, *SHAPE))
    return Rows(x0, jnp.arange(N, dtype=jnp.int32), jnp.full(N, -1, jnp.int32))


WEIGHT = 0.2 * jax.random.normal(jax.random.key(2), (32, 32))


def model(weight, x, t, breaks):
    """Products over all of a sample, and nothing of another's; NaN where it breaks."""
    at = 1 + t.astype(jnp.float32)[:, None] / 1000
    out = jnp.sin(at * (x.reshape(len(x), -1) @ weight)).reshape(x.shape)
    return jnp.where((t == breaks)[:, None, None, None], jnp.nan, out)


def inverted(method: str, weight: Any, batch: Rows) -> dict[str, jax.Array]:
    args = (model, weight, batch.x0, SCHEDULE, batch.breaks)
    if method == "ddim":
        return ddim.invert_with_residual(*args)._asdict()
    if method == "fixed-point":
        return fixed_point.invert(*args)._asdict()
    if method == "exact":
        (x_T, code), residual = exact.invert_with_residual(*args)
    else:
        fold_in = jax.vmap(jax.random.fold_in, (None, 0))
        keys = fold_in(jax.random.key(0), batch.number)
        (x_T, code), residual = dpm_encoder.encode_with_residual(*args, keys=keys)
    return {"x_T": x_T, "code": code, "residual": residual}


run = jax.jit(inverted, static_argnums=0)


def same(left, right):
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def close(left, right):
    for name in left:
        bound = ROUNDING * max(1, np.abs(right[name]).max())
        np.testing.assert_allclose(left[name], right[name], atol=bound, err_msg=name)


def taken(out, places):
    return {name: leaf[np.asarray(places)] for name, leaf in out.items()}


@pytest.mark.parametrize("method", METHODS)
def test_other_neighbours_change_no_bit(method):
    own = run(method, WEIGHT, rows())
    batch = rows()
    others = batch._replace(
        x0=batch.x0.at[1::2].set(3 * batch.x0[::2] + 1),
        number=batch.number.at[1::2].add(100),
    )
    same(taken(own, range(0, N, 2)), taken(run(method, WEIGHT, others), range(0, N, 2)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_an_image_that_is_not_finite_changes_no_bit_beside_it(method, value):
    own = run(method, WEIGHT, rows())
    bad = run(method, WEIGHT, rows()._replace(x0=rows().x0.at[3].set(value)))
    good = [i for i in range(N) if i != 3]
    same(taken(own, good), taken(bad, good))
    assert not all(np.isfinite(leaf[3]).all() for leaf in bad.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", range(1, STEPS - 1))
def test_a_row_that_breaks_on_the_way_is_told_and_harms_no_other(method, step):
    """At one step alone; even where later samples do not depend on what it gave."""
    t = SCHEDULE.sampling.t[step]
    own = run(method, WEIGHT, rows())
    broken = run(method, WEIGHT, rows()._replace(breaks=rows().breaks.at[3].set(t)))
    good = [i for i in range(N) if i != 3]
    same(taken(own, good), taken(broken, good))
    told = (broken["x_T"][3], broken["residual"][3])
    assert not all(np.isfinite(leaf).all() for leaf in told)


def test_nothing_waits_for_a_row_that_is_lost():
    """Fixed-point inversion gives NaN one call a step, not all that it may take."""
    lost = run("fixed-point", WEIGHT, rows()._replace(x0=rows().x0.at[3].set(np.nan)))
    assert lost["calls"][3] == STEPS - 1 < lost["calls"][0]


@pytest.mark.parametrize("method", METHODS)
def test_another_order_gives_the_same_rows(method):
    order = np.random.default_rng(0).permutation(N)
    own = run(method, WEIGHT, rows())
    close(taken(own, order), run(method, WEIGHT, rows().take(order)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", (1, 4))
def test_batches_of_any_size_give_the_same_rows(method, size):
    own = run(method, WEIGHT, rows())
    parts = [
        run(method, WEIGHT, rows().take(range(i, i + size))) for i in range(0, N, size)
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in own}
    close(joined, own)


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_devices_gives_the_same_rows(method):
    own = run(method, WEIGHT, rows())
    for count in (1, 4):
        mesh = parallel.data_mesh(jax.devices()[:count])
        split = parallel.data_parallel(
            lambda w, batch: inverted(method, w, batch), mesh
        )
        close(split(WEIGHT, parallel.shard_batch(rows(), mesh)), own)


@pytest.mark.parametrize("method", ("exact", "dpm-encoder"))
def test_the_residual_of_what_is_exact_is_rounding_and_free(method):
    """It changes no bit of the noise, and takes no model call."""
    batch, args = rows(), (SCHEDULE, rows().breaks)
    calls = []

    def counted(weight, x, t, breaks):
        calls.append(len(x))
        return model(weight, x, t, breaks)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch.number)
    if method == "exact":
        plain = exact.invert(counted, WEIGHT, batch.x0, *args)
        times = len(calls)
        full = exact.invert_with_residual(counted, WEIGHT, batch.x0, *args)
    else:
        plain = dpm_encoder.encode(counted, WEIGHT, batch.x0, *args, keys=keys)
        times = len(calls)
        full = dpm_encoder.encode_with_residual(
            counted, WEIGHT, batch.x0, *args, keys=keys
        )
    assert len(calls) == 2 * times
    for left, right in zip(plain, full[0], strict=True):
        np.testing.assert_array_equal(left, right)
    assert 0 < full.residual.min() and full.residual.max() < 1e-6
