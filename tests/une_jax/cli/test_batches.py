"""Rows go to the devices ahead of the results that come back."""

from typing import Any

import jax
import numpy as np
import pytest

from une_jax import parallel
from une_jax.cli.batches import batched


class Result:
    """What a device is still computing: reading it waits."""

    def __init__(self, events: list[str], name: str, rows: Any):
        self.events, self.name, self.rows = events, name, np.asarray(rows)

    def copy_to_host_async(self) -> None:
        self.events.append(f"copy {self.name}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        self.events.append(f"wait {self.name}")
        return self.rows.astype(dtype or self.rows.dtype)


@pytest.fixture
def mesh():
    return parallel.data_mesh()


def test_the_next_batch_starts_before_the_last_one_is_waited_for(mesh):
    events: list[str] = []

    def run(rows):
        name = str(len([e for e in events if e.startswith("start")]))
        events.append(f"start {name}")
        return Result(events, name, 2 * np.asarray(rows))

    x = np.arange(14.0)
    np.testing.assert_array_equal(batched(run, x, mesh, 4), 2 * x)
    # Two on the devices and never three; results are on their way as soon as they can.
    assert events == [
        *("start 0", "copy 0", "start 1", "copy 1", "wait 0"),
        *("start 2", "copy 2", "wait 1", "start 3", "copy 3", "wait 2", "wait 3"),
    ]


@pytest.mark.parametrize("rows", (1, 4, 5, 8))
def test_any_number_of_rows_of_many_leaves(mesh, rows):
    batch = {"a": np.arange(rows), "b": np.ones((rows, 3), np.float32)}
    shapes = set()

    @jax.jit
    def run(batch):
        shapes.add(batch["b"].shape)
        return {"sum": batch["a"] + batch["b"].sum(1).astype(int), "b": batch["b"]}

    out = batched(run, batch, mesh, 4)
    np.testing.assert_array_equal(out["sum"], np.arange(rows) + 3)
    assert out["b"].shape == (rows, 3) and shapes == {(4, 3)}  # a tail is no new shape
