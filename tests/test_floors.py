"""The floors of the house: who may import whom, and what no file may do.

Read from the sources, so that an import inside a function counts too.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PORTS = sorted((ROOT / "ports").rglob("*.py"))
UNE_JAX = sorted((ROOT / "une_jax").rglob("*.py"))
CLI = [f for f in UNE_JAX if ROOT / "une_jax" / "cli" in f.parents]
SOURCES = PORTS + UNE_JAX
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
RECIPES = [ROOT / "Makefile", *sorted((ROOT / ".ci").iterdir())]
DELETING = [ROOT / "une_jax" / name for name in ("zoo/atomic.py", "zoo/writer.py")]
DELETING += [ROOT / "une_jax/interop/whole.py"]
NAMES = [str(f.relative_to(ROOT)) for f in SOURCES]

every_file = pytest.mark.parametrize("file", SOURCES, ids=NAMES)


def imported(tree: ast.AST) -> set[str]:
    """Full names of all that a file imports, wherever it does: ``flax.nnx``, ..."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a name comes from"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return names


def used(tree: ast.AST) -> set[str]:
    """All dotted names that a file uses or imports: ``jax.nn.gelu``, ``nnx.List``."""
    return imported(tree) | {
        _dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def packages(file: Path) -> set[str]:
    """Top-level packages that a file imports."""
    return {name.split(".")[0] for name in imported(ast.parse(file.read_text()))}


def test_the_reader_sees_what_it_should():
    tree = ast.parse(
        "import torch.nn as nn\nfrom flax import nnx\n"
        "def f():\n    from jax.nn import gelu\n    return nnx.GroupNorm(1)\n"
        "import importlib\nimportlib.import_module('pickle')\n"
    )
    assert imported(tree) == {"torch.nn", "flax.nnx", "jax.nn.gelu", "importlib", "pickle"}  # fmt: skip
    assert {"nnx.GroupNorm", "jax.nn.gelu"} <= used(tree)
    assert len(PORTS) > 8 and len(UNE_JAX) > 20 and len(CLI) > 5


@pytest.mark.parametrize("file", PORTS, ids=lambda f: f.name)
def test_ports_know_neither_the_maths_nor_torch(file):
    assert not packages(file) & {"une_jax", "scripts", "torch", "diffusers"}


@every_file
def test_the_maths_knows_no_networks(file):
    """Only the command line, which puts the two together, sees both floors."""
    if file in UNE_JAX and file not in CLI:
        forbidden = {"ports", "flax", "torch", "transformers", "diffusers", "scripts"}
        assert not packages(file) & forbidden


@every_file
def test_nothing_needs_torch_or_opens_pickles(file):
    forbidden = {"torch", "torchvision", "diffusers"}
    forbidden |= {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
    assert not packages(file) & forbidden
    text = file.read_text()
    for word in ("trust_remote_code", "allow_pickle=True"):
        assert word not in text


@pytest.mark.parametrize("file", [*SOURCES, *SCRIPTS, *RECIPES], ids=lambda f: f.name)
def test_nothing_deletes_folders_with_all_that_is_in_them(file):
    text = file.read_text()
    for word in ("rmtree", "removedirs", "rm -r", "rm -f", "remove_tree"):
        assert word not in text


@every_file
def test_what_unlinks_is_in_one_place(file):
    """There, each file is named; what the program has not written it cannot hit."""
    names = used(ast.parse(file.read_text()))
    last = {name.split(".")[-1] for name in names}
    deleting = last & {"unlink", "rmdir", "remove_files", "TemporaryDirectory"}
    deleting |= names & {"os.remove", "pathlib.os.remove"}
    if file not in DELETING:
        assert not deleting
    else:
        assert deleting


@every_file
def test_flax_and_jax_defaults_that_differ_from_torch_stay_in_the_layers(file):
    """Their norms have a one-pass variance and other epsilons; their GELU is tanh."""
    if file != ROOT / "ports" / "layers.py":
        lone = {
            name.removeprefix("flax.") for name in used(ast.parse(file.read_text()))
        }
        for name in ("nnx.GroupNorm", "nnx.LayerNorm", "nnx.gelu", "jax.nn.gelu"):
            assert name not in lone
            assert not any(n.endswith(f".linen.{name.split('.')[-1]}") for n in lone)
        assert "nn.gelu" not in lone


@every_file
def test_a_file_ends_where_its_idea_ends(file):
    assert len(file.read_text().splitlines()) <= 450


@every_file
def test_what_is_public_says_what_it_is(file):
    """A docstring on the module, its public functions and its public classes."""
    tree = ast.parse(file.read_text())
    nodes = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree)
    assert [n.name for n in nodes if not ast.get_docstring(n)] == []
