import doctest
import hashlib
import sys

import numpy as np
import pyarrow as pa
import pytest

from une_jax.errors import UneError
from une_jax.sources import keys as module
from une_jax.sources.keys import Keys


def test_examples_in_docstrings():
    assert doctest.testmod(module).failed == 0


def test_keys_are_sorted_as_python_sorts_them_whatever_their_alphabet():
    words = [
        "b",
        "B",
        "a/z",
        "a.jpg",
        "é",
        "z",
        "日本",
        "\U0001f600",
        "\uffee",
        "10",
        "9",
    ]
    got, order = Keys.sort(iter(words))
    assert list(got) == sorted(words)
    assert [words[i] for i in order] == sorted(words)


@pytest.mark.parametrize("length", [0, 1, module.CHUNK, module.CHUNK + 1])
def test_keys_behave_as_a_list_does(length):
    words = [f"{i:06d}.jpg" for i in range(length)]
    got, _ = Keys.sort(words)
    assert got == words and list(got) == words and len(got) == length
    assert got[1:3] == words[1:3] and got[: length - 1] == words[: length - 1]
    if length:
        assert got[-1] == words[-1] and words[0] in got and "x" not in got
        assert got != words[1:] and got != [*words[:-1], "x"]
    with pytest.raises(IndexError):
        got[length]


def test_keys_are_equal_to_keys_and_lists_but_not_to_text():
    got, _ = Keys.sort(["a", "b"])
    assert got == Keys.sort(["b", "a"])[0] and got != Keys.sort(["a"])[0]
    assert got == ("a", "b") and got != "ab"


def test_arrow_arrays_become_keys_too():
    chunks = pa.chunked_array([["b"], ["a", "c"]])
    got, order = Keys.sort(chunks)
    assert got == ["a", "b", "c"] and order.tolist() == [1, 0, 2]
    assert Keys.sort(pa.array(["x"], pa.large_string()))[0] == ["x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (pa.array(["a", None]), "a key is missing"),
        (["a", ""], "key '' is empty"),
        (["a", "b\nc"], r"'b\\nc' has a line break; rename it"),
        (["a", "b\rc"], "line break"),
        (["a", "b\0c"], "line break"),
        (["a", "/etc/b"], "'/etc/b' leads out of its folder"),
        (["a", "b/../c"], "leads out"),
        (["a", ".."], "leads out"),
        (["b", "a", "c", "b"], "key 'b' occurs twice"),
    ],
)
def test_keys_that_a_zoo_cannot_store_are_refused(words, message):
    with pytest.raises(UneError, match=message):
        Keys.sort(words)


def test_keys_with_dots_in_them_are_fine():
    words = ["...", "..a/b..", "a..b", "a/...", "a/.b"]
    assert Keys.sort(words)[0] == sorted(words)


def test_some_keys_can_be_taken():
    got, _ = Keys.sort(["a", "b", "c"])
    assert got.take(np.array([0, 2])) == ["a", "c"]


def test_keys_take_few_bytes_beside_their_text():
    words = (
        hashlib.sha256(bytes([i % 251, i // 251])).hexdigest() for i in range(9000)
    )
    got, _ = Keys.sort(words)
    assert got.array.nbytes <= 9000 * (64 + 8 + 1)
    assert (
        sys.getsizeof("0" * 64) > 64 + 8 + 1
    )  # what one of a list would take, at least
