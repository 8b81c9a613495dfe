"""What docs/ says can be typed: recipes parse, their options exist, links lead somewhere."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from une_jax.cli.build import Build
from une_jax.cli.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "docs/recipes").iterdir())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = {
    "--" + field.name.replace("_", "-")
    for kind in (Build, Cluster)
    for field in dataclasses.fields(kind)
}

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.name)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda f: f.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    for link in links:
        assert (page.parent / link).exists(), link
    assert links or page.name != "README.md"
