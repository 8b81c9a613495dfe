"""What the documentation has beside docs/: the commands' help and a page a module.

mkdocs runs these hooks (``mkdocs.yml``, ``make docs``). Nothing is written into docs/.
"""

import ast
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
# What each part of the reference is called, and the modules in it, by path.
PARTS = {
    "ports": ("ports",),
    "une_jax": ("une_jax",),
    "une_jax.zoo, sources, interop": (
        "une_jax/zoo",
        "une_jax/sources",
        "une_jax/interop",
    ),
    "une_jax.miniature": ("une_jax/miniature",),
    "une_jax.report": ("une_jax/report",),
    "une_jax.app": ("une_jax/app",),
}


def on_config(config: Any) -> Any:
    """The reference at the end of the navigation."""
    modules = {part: list(_modules(folders)) for part, folders in PARTS.items()}
    pages = [
        {part: [{name: _page(name)} for name in names]}
        for part, names in modules.items()
    ]
    config["nav"] += [{"Commands": "commands.md"}, {"API": ["api/index.md", *pages]}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages themselves."""
    pages = {"commands.md": commands(), "api/index.md": index()}
    for folders in PARTS.values():
        pages |= {_page(name): f"::: {name}\n" for name in _modules(folders)}
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def index() -> str:
    """Every module with the first line of its docstring."""
    lines = ["# API", "", "From the docstrings. Every `>>>` is run by the tests.", ""]
    for part, folders in PARTS.items():
        lines += [f"## {part}", "", "| module | holds |", "|---|---|"]
        for name in _modules(folders):
            tree = ast.parse(_file(name).read_text(encoding="utf-8"))
            first = (ast.get_docstring(tree) or "").split("\n\n")[0]
            said = " ".join(first.split()).replace("|", "\\|")
            lines.append(f"| [`{name}`]({_page(name).removeprefix('api/')}) | {said} |")
        lines.append("")
    return "\n".join(lines)


def commands() -> str:
    """Every command's --help, as the command line prints it."""
    from une_jax.cli.main import spoken

    lines = ["# Commands", "", "What `une-jax COMMAND --help` prints.", ""]
    for words in spoken():
        text = "\n".join(line.rstrip() for line in helped(*words).splitlines())
        lines += [f"## {' '.join(words)}", "", "```text", text.strip("\n"), "```", ""]
    return "\n".join(lines)


def helped(*words: str) -> str:
    """One command's --help, as wide as a page of the site."""
    from une_jax.cli.main import main

    os.environ.update(COLUMNS="76", NO_COLOR="1", TERM="dumb")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
    return out.getvalue()


def _modules(folders: tuple[str, ...]) -> Iterator[str]:
    """Public modules: of a folder those in it, packages by what their file exports."""
    for folder in folders:
        for file in sorted((ROOT / folder).glob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            name = name.removesuffix(".__init__")
            if not file.name.startswith("_") or file.name == "__init__.py":
                yield name


def _file(name: str) -> Path:
    path = ROOT / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _page(name: str) -> str:
    return f"api/{name}.md"
