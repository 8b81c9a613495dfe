"""Data sets as Hugging Face `datasets` itself writes them."""

import io
from collections.abc import Sequence

import datasets
import numpy as np
from PIL import Image

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog", "wild"]),
        "Smiling": datasets.ClassLabel(names=["no", "yes"]),
        "Male": datasets.Value("bool"),
        "more": {"Young": datasets.Value("bool"), "age": datasets.Value("int32")},
        "caption": datasets.Value("string"),
        "score": datasets.Value("float64"),
    }
)
LABELS = ("cat", "dog", "wild")


def png(number: int) -> bytes:
    """A small image of its own for each number."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def dataset(numbers: Sequence[int]) -> datasets.Dataset:
    """Rows that follow from their numbers, in all types that we read."""
    columns = {
        "image": [{"bytes": png(i), "path": f"{i:04d}.png"} for i in numbers],
        "label": [i % 3 for i in numbers],
        "Smiling": [i % 2 for i in numbers],
        "Male": [i % 5 == 0 for i in numbers],
        "more": [{"Young": i < 3, "age": 20 + i} for i in numbers],
        "caption": [f"face {i}" for i in numbers],
        "score": [i / 4 for i in numbers],
    }
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def check(source, numbers: Sequence[int]) -> None:
    """That a source says of these rows what `dataset` wrote, whatever its keys are."""
    names = ("cat", "dog", "wild", "Smiling", "Male", "Young")
    assert source.attributes.names == names
    expected = [
        [i % 3 == 0, i % 3 == 1, i % 3 == 2, i % 2 == 1, i % 5 == 0, i < 3]
        for i in numbers
    ]
    assert source.attributes.values.tolist() == expected
    columns = {name: column.to_pylist() for name, column in source.columns.items()}
    assert columns["label"] == [LABELS[i % 3] for i in numbers]
    assert columns["age"] == [20 + i for i in numbers]
    assert columns["caption"] == [f"face {i}" for i in numbers]
    assert columns["score"] == [i / 4 for i in numbers]
    assert [source.read(row) for row in range(len(numbers))] == [*map(png, numbers)]
