"""What the documentation says holds: commands parse, Python runs, links lead somewhere."""

import dataclasses
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from scripts import docs_examples
from une_jax.cli.build import Build
from une_jax.cli.cluster import Cluster

cli = importlib.import_module("une_jax.cli.main")  # the package has a function there
ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "docs/recipes").iterdir())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
OPTIONS = {
    "--" + field.name.replace("_", "-")
    for kind in (Build, Cluster)
    for field in dataclasses.fields(kind)
}

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.name)
every_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)


@every_recipe
def test_recipes_are_shell_scripts(recipe):
    ran = subprocess.run(["bash", "-n", recipe], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@every_recipe
def test_recipes_ask_for_what_build_has(recipe):
    text = re.sub(r"\\\n", " ", recipe.read_text())
    builds = re.findall(r"une-jax build(.*)", text)
    asked = set(re.findall(r"(--[a-z][a-z-]+)", " ".join(builds)))
    assert {"--images", "--generator", "--out"} <= asked <= OPTIONS


@every_page
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    for link in links:
        assert (page.parent / link).exists(), link
    assert links or page.name != "README.md"


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    fences = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [text for language, text in fences if language in languages]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block, split into words, without what follows a pipe."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[: line.index("|")] if "|" in line else line for line in words if line]


SHELL = [
    pytest.param(words, id=f"{name}: {' '.join(words)[:60]}")
    for page, name in zip(PAGES, NAMES, strict=True)
    for block in blocks(page, "sh", "bash")
    for words in commands(block)
]


class Parsed(BaseException):
    """Raised in place of running a command."""


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line as ``une-jax`` does, and stops there."""

    def parsed():
        raise Parsed

    monkeypatch.setattr(cli, "configure_jax", parsed)
    return cli.main


@pytest.mark.parametrize("words", SHELL)
def test_commands_parse(words, parse):
    """Those of une-jax by its own parser; of make the target, of a script the options."""
    if "une-jax" in words:
        with pytest.raises(Parsed):
            parse(words[words.index("une-jax") + 1 :])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
    elif scripts := [word for word in words if word.startswith("scripts/")]:
        text = (ROOT / scripts[0]).read_text()
        for folder in re.findall(r"^from scripts\.(\w+)\.args import", text, re.M):
            text += (ROOT / "scripts" / folder / "args.py").read_text()
        for option in re.findall(r"(?<= )--([a-z][a-z-]*)", " ".join(words)):
            assert re.search(rf"^    {option.replace('-', '_')}: ", text, re.M), option


def test_what_does_not_parse_is_seen(parse):
    with pytest.raises(SystemExit):
        parse(["probe", "zoo", "--componnets", "3"])


@every_page
def test_commands_within_the_text_have_the_options_that_it_names(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for said in re.findall(r"`une-jax ([a-z][^`]*)`", prose):
        name, *words = said.split()
        command = cli.COMMANDS[name]
        if parts := getattr(command, "parts", None):
            command = parts[words.pop(0)] if words else command
        kinds = (command, Cluster)
        has = {"--help"} | {
            "--" + f.name.replace("_", "-")
            for k in kinds
            for f in dataclasses.fields(k)
        }
        asked = {word.strip("[]").split("=")[0] for word in words}
        assert {word for word in asked if word.startswith("--")} <= has, said


PYTHON = [page for page in PAGES if blocks(page, "python")]
# What a page's Python takes as given: run before its blocks, in the same folder.
GIVEN = {
    "README.md": """
x = jax.numpy.zeros((1, 8, 8, 4))
t = jax.numpy.array([1])
direction = jax.numpy.ones(())
""",
    "interop.md": """
import datasets
column = datasets.List(datasets.Value("float16"), length=16384)
data = {"sd15": [[0.0] * 16384] * 9}
data = datasets.Dataset.from_dict(data, datasets.Features(sd15=column))
data.to_parquet("DIR/data/train-0.parquet")
""",
}


@pytest.mark.parametrize("page", PYTHON, ids=lambda f: str(f.relative_to(ROOT)))
def test_python_runs(page, tmp_path, monkeypatch):
    """A page's blocks one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names = {"jax": jax}
    exec(GIVEN.get(page.name, ""), names)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` builds it."""
    out = tmp_path_factory.mktemp("site")
    options = ["build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *options],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return out


@pytest.mark.slow
def test_no_page_asks_for_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 100
    elsewhere = re.compile(
        r"<(?:link|script|img|iframe)[^>]*(?:src|href)=\"(https?:[^\"]*)"
    )
    for page in pages:
        assert not elsewhere.findall(page.read_text()), page


@pytest.mark.slow
def test_every_public_module_has_a_page_and_every_command_its_help(site):
    for module in ("ports.lpips", "une_jax.ddim", "une_jax.zoo.reader", "une_jax.zoo"):
        assert (site / f"api/{module}.html").exists(), module
    assert "orthogonalize" in (site / "api/une_jax.edits.html").read_text()
    helped = (site / "commands.html").read_text()
    for name in cli.COMMANDS:
        assert f"usage: une-jax {name}" in helped, name


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Adds.", "Adds."),
        (">>> 1\n1", "```pycon\n>>> 1\n1\n```"),
        ("A\n\n>>> 1\n1\n\nB", "A\n\n```pycon\n>>> 1\n1\n```\n\nB"),
        (">>> f()  # doctest: +SKIP", "```pycon\n>>> f()\n```"),
        (">>> 1\n1\n>>> 2\n2", "```pycon\n>>> 1\n1\n>>> 2\n2\n```"),
    ],
)
def test_examples_are_shown_as_code(text, shown):
    assert docs_examples.fenced(text) == shown
