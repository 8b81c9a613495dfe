"""One bit of a dataset is wrong. Runs in a light process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import light
import little

from une_jax import zoo
from une_jax.errors import UneError

TINY = (3, 2)  # rows of the zoo and of a shard


def build(path: Path) -> None:
    """Two shards: the first is in the manifest, the second in a record."""
    writer = zoo.create(path, little.manifest(TINY))
    for index in range(2):
        little.commit(writer, index)
        if index == 0:
            writer.fold()


def every_byte(name: str, every: int) -> dict[str, Any]:
    """Flips one bit of each byte of a file; what `verify` does not name.

    At every `every`-th byte, also what readers are told.
    """
    wrong, flipped = [], 0
    with light.scratch() as folder:
        path = Path(folder, "zoo")
        build(path)
        whole = (path / name).read_bytes()
        right = read(path)
        assert zoo.verify(path) == [], zoo.verify(path)
        for i in range(len(whole)):
            damaged = bytearray(whole)
            damaged[i] ^= 1 << (i * 5 % 8)
            (path / name).write_bytes(damaged)
            flipped += 1
            problems = zoo.verify(path)
            if len(problems) != 1 or not problems[0].startswith(f"{name}: "):
                wrong.append(f"byte {i}: {problems}")
            if i % every == 0:
                wrong += _read(path, right, f"byte {i}")
    return {"flipped": flipped, "wrong": wrong}


def read(path: Path) -> dict[str, Any]:
    """All that readers can ask for, or our error, or the text of another."""
    questions: dict[str, Callable[[zoo.Zoo], Any]] = {
        "manifest": lambda opened: opened.manifest,
        "clip": lambda opened: opened["clip"][:].tobytes(),
        "sd": lambda opened: opened["sd"][:].tobytes(),
        "rows": lambda opened: opened.all_rows.to_pylist(),
        "keys": lambda opened: opened.keys,
        "split": lambda opened: opened.split("train").tolist(),
    }
    opened = _answer(zoo.open, path)
    if not isinstance(opened, zoo.Zoo):
        return {"open": opened}
    return {name: _answer(question, opened) for name, question in questions.items()}


def _answer(question: Callable[[Any], Any], asked: Any) -> Any:
    try:
        return question(asked)
    except UneError as error:
        return error
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _read(path: Path, right: dict[str, Any], where: str) -> list[str]:
    """What readers are told that is neither right nor our error."""
    wrong = []
    for name, answer in read(path).items():
        if isinstance(answer, UneError):
            same = "\n" not in str(answer)
        elif isinstance(answer, bytes) and len(answer) == len(right[name]):
            # The latents themselves are read by `verify` alone.
            same = sum(a != b for a, b in zip(answer, right[name], strict=True)) < 2
        else:
            same = answer == right[name]
        if not same:
            wrong.append(f"{where}: {name} is {answer}")
    return wrong
