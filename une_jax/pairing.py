"""Which images a map, a probe and a test are of: apart, paired, and whole."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Array

from une_jax.errors import UneError

Rows = np.ndarray | Array
"""Floats (n, d); what is given is checked here, not by its type."""


def disjoint(**sets: Iterable[Any]) -> None:
    """Raises UneError where two sets of keys have one in common.

    A probe tested on images that the map was fitted to says more than there is.

    >>> disjoint(map=["a", "b"], test=["c"])
    >>> disjoint(map=[1, 2, 3], probe=[4], test=[2, 3, 5])
    Traceback (most recent call last):
    ...
    une_jax.errors.UneError: map and test have 2 images in common: keep them apart
    """
    known = {name: set(_listed(keys)) for name, keys in sets.items()}
    names = list(known)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = len(known[first] & known[second])
            if shared:
                images = "1 image" if shared == 1 else f"{shared} images"
                raise UneError(
                    f"{first} and {second} have {images} in common: keep them apart"
                )


def check_rows(
    x: Rows,
    y: Rows | None = None,
    *,
    x_keys: Iterable[Any] | None = None,
    y_keys: Iterable[Any] | None = None,
    names: tuple[str, str] = ("x", "y"),
    least: int = 2,
) -> None:
    """Raises UneError unless ``x`` (and ``y``) can be mapped from (and to).

    Args:
        x_keys, y_keys: what image each row is of, where that is known.
        names: what the message calls the two.
        least: how many rows there must be.

    Raises:
        UneError: for values that are not finite, fewer rows than ``least``, different
            numbers of rows, or rows of different images or in a different order.

    >>> check_rows(np.zeros((3, 2)), np.zeros((3, 1)), x_keys="abc", y_keys="acb")
    Traceback (most recent call last):
    ...
    une_jax.errors.UneError: row 1 is of b in x, of c in y: give pairs in one order
    """
    for name, rows in zip(names, (x, y), strict=True):
        if rows is None:
            continue
        if rows.ndim != 2 or 0 in rows.shape:
            raise UneError(f"{name} has shape {rows.shape}; give rows of latents")
        bad = int((~np.isfinite(np.asarray(rows))).any(axis=1).sum())
        if bad:
            raise UneError(f"{name} has {bad} of {len(rows)} rows that are not finite")
        if len(rows) < least:
            raise UneError(f"a map needs at least {least} rows; {name} has {len(rows)}")
    if y is not None and len(x) != len(y):
        raise UneError(
            f"{names[0]} has {len(x)} rows, {names[1]} has {len(y)}: give pairs"
        )
    if x_keys is None or y_keys is None:
        return
    for i, (a, b) in enumerate(zip(_listed(x_keys), _listed(y_keys), strict=False)):
        if a != b:
            raise UneError(
                f"row {i} is of {a} in {names[0]}, of {b} in {names[1]}: "
                "give pairs in one order"
            )


def _listed(keys: Iterable[Any]) -> list[Any]:
    """Arrays as numbers, which hash and print as such."""
    return keys.tolist() if isinstance(keys, np.ndarray | Array) else list(keys)
