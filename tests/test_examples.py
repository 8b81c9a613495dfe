"""Every example in a docstring gives what it says, under the tests' own strict settings."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = [f for folder in ("ports", "une_jax") for f in (ROOT / folder).rglob("*.py")]
WITH = sorted(f for f in FILES if ">>> " in f.read_text())
NAMES = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in WITH]


@pytest.mark.parametrize("name", [n.removesuffix(".__init__") for n in NAMES])
def test_examples_give_what_they_say(name):
    module = importlib.import_module(name)
    # A function may hide the module of its name in the package's own namespace.
    assert hasattr(module, "__file__")
    assert doctest.testmod(module).failed == 0
