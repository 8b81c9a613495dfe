"""What the columns of a table say of each image: attributes, or columns of a source.

::

    bool; integers 0 and 1, or -1 and 1      attribute
    ClassLabel of "no" and "yes"             attribute
    ClassLabel of other names                column of the names, and an attribute for
                                             each name if they are few
    struct of such                           its fields, likewise
    list "attributes" of forty such          CelebA's attributes (as eurecom-ds/celeba)
    string, other integers, float            column

What some rows lack (null, a label of -1) is null in a column, and never the "no" of an
attribute. Where two names would be equal, both are given in full: `label/cat`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.types as pt

from une_jax.errors import UneError
from une_jax.sources.celeba import ATTRIBUTE_NAMES
from une_jax.sources.classes import FEW
from une_jax.sources.keys import pc

YES_NO = (["no", "yes"], ["false", "true"], ["0", "1"], ["-1", "1"])


class Fact(NamedTuple):
    """One thing known of every row, and what to call it if that is not ambiguous."""

    short: str
    full: str
    values: pa.ChunkedArray
    attribute: bool


def is_useful(field: pa.Field) -> bool:
    """Whether `facts_of` can make something of a column of this type."""
    kind = field.type
    if pt.is_struct(kind):
        return all(_is_scalar(child.type) for child in kind)
    if is_list(kind):
        return field.name == "attributes" and _is_number(kind.value_type)
    return _is_scalar(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether values are strings, be they encoded as a dictionary."""
    if pt.is_dictionary(kind):
        return is_text(kind.value_type)
    return pt.is_string(kind) or pt.is_large_string(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists."""
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)


def _is_scalar(kind: pa.DataType) -> bool:
    return _is_number(kind) or is_text(kind)


def facts_of(
    columns: Mapping[str, pa.ChunkedArray], features: Mapping[str, Any]
) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
    """The attributes (bool, without nulls) and the columns of a table.

    Args:
        columns: those that `is_useful` for.
        features: what `datasets` notes of them: {"label": {"_type": "ClassLabel", ...}}.

    Raises:
        UneError: a label has no name, or a column is too large.

    >>> label = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    >>> attributes, columns = facts_of(
    ...     {"label": pa.chunked_array([[1, 0]]), "age": pa.chunked_array([[7, 8]])},
    ...     {"label": label},
    ... )
    >>> {name: value.to_pylist() for name, value in attributes.items()}
    {'cat': [False, True], 'dog': [True, False]}
    >>> {name: value.to_pylist() for name, value in columns.items()}
    {'label': ['dog', 'cat'], 'age': [7, 8]}
    """
    facts = []
    for name, values in columns.items():
        try:
            facts += _facts(name, name, values, features.get(name))
        except pa.ArrowException as error:
            raise UneError(f"column {name!r}: {error}") from error
    count = Counter(fact.short for fact in facts)
    found = ({}, {})
    for fact in facts:
        name = fact.short if count[fact.short] == 1 else fact.full
        if name in found[0] or name in found[1]:
            raise UneError(f"{name!r} is what two columns are called; rename one")
        found[not fact.attribute][name] = fact.values.combine_chunks()
    return found


def _facts(
    short: str, full: str, values: pa.ChunkedArray, feature: object
) -> Iterator[Fact]:
    kind = values.type
    feature = feature if isinstance(feature, dict) else {}
    if pt.is_struct(kind):
        for i in range(kind.num_fields):
            name = kind.field(i).name
            child = pc.struct_field(values, [i])
            yield from _facts(name, f"{full}/{name}", child, feature.get(name))
        return
    if is_list(kind):
        yield from _forty(full, values)
        return
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and pt.is_integer(kind):
        if isinstance(names, list) and all(isinstance(n, str) for n in names):
            yield from _classes(short, full, values, names)
            return
    if is_text(kind):
        yield Fact(short, full, values.cast(pa.string()), False)
        return
    yes = _yes(values)
    if yes is not None:
        yield Fact(short, full, yes, True)
    elif pt.is_boolean(kind):
        yield Fact(short, full, values, False)
    elif pt.is_integer(kind):
        yield Fact(short, full, values.cast(pa.int64()), False)
    else:
        yield Fact(short, full, values.cast(pa.float32(), safe=False), False)


def _yes(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Which values are yes, if each of them is yes or no."""
    if values.null_count:
        return None
    if pt.is_boolean(values.type):
        return values
    if not pt.is_integer(values.type):
        return None
    low, high = pc.min_max(values).as_py().values()
    signed = (low, high) == (-1, 1) and not pc.any(pc.equal(values, 0)).as_py()
    return pc.equal(values, 1) if signed or (low, high) == (0, 1) else None


def _classes(
    short: str, full: str, codes: pa.ChunkedArray, names: list[str]
) -> Iterator[Fact]:
    codes = pc.if_else(pc.equal(codes, -1), None, codes.cast(pa.int64()))
    low, high = pc.min_max(codes).as_py().values()
    if low is not None and not 0 <= low <= high < len(names):
        wrong = low if low < 0 else high
        raise UneError(f"column {full!r}: label {wrong} is none of {len(names)} names")
    if [name.lower() for name in names] in YES_NO:
        yield Fact(short, full, pc.equal(codes, 1), not codes.null_count)
        return
    text = pa.array(names, pa.string()).take(codes.combine_chunks())
    yield Fact(short, full, pa.chunked_array([text]), False)
    if not codes.null_count and len(names) <= FEW:
        for code, name in enumerate(names):
            yield Fact(name, f"{full}/{name}", pc.equal(codes, code), True)


def _forty(full: str, lists: pa.ChunkedArray) -> Iterator[Fact]:
    count = len(ATTRIBUTE_NAMES)
    shortest, longest = pc.min_max(pc.list_value_length(lists)).as_py().values()
    flat = pc.list_flatten(lists)
    if lists.null_count or (shortest, longest) != (count, count) or flat.null_count:
        return
    table = flat.to_numpy().reshape(len(lists), count)
    if not ((table == 0) | (table == 1)).all() and not (abs(table) == 1).all():
        return
    for i, name in enumerate(ATTRIBUTE_NAMES):
        yes = pa.chunked_array([pa.array(table[:, i] == 1)])
        yield Fact(name, f"{full}/{name}", yes, True)
