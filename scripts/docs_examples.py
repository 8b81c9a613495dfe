"""What our docstrings need to read well as Markdown: an extension of griffe, for mkdocs.

Examples (``>>>``) become blocks of code, a field's trailing comment its docstring, and
constants of which nothing is said stay out.
"""

import re
from pathlib import Path
from typing import Any

from griffe import Attribute, Docstring, Extension, Module, Object


def fenced(text: str) -> str:
    """A docstring with its examples in fences; without marks for doctest.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2\\n\\nAnd more."))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    And more.
    """
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        starts = line.lstrip().startswith(">>> ")
        if starts and not inside:
            lines += ["```pycon"]
            inside = True
        elif inside and not line.strip():
            lines += ["```"]
            inside = False
        lines.append(re.sub(r"\s+# doctest: .*", "", line))
    return "\n".join([*lines, "```"] if inside else lines)


class Readable(Extension):
    """Applied to every object as griffe reads it from the source."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_attribute_instance(self, *, attr: Attribute, **kwargs: Any) -> None:
        del kwargs
        if attr.docstring or not attr.lineno or attr.parent is None:
            return
        if attr.parent.is_class and isinstance(attr.filepath, Path):
            line = attr.lines_collection[attr.filepath][attr.lineno - 1]
            _, mark, comment = line.partition("  # ")
            if mark:
                attr.docstring = Docstring(comment, parent=attr, lineno=attr.lineno)

    def on_module(self, *, mod: Module, **kwargs: Any) -> None:
        del kwargs
        for name, member in list(mod.members.items()):
            if isinstance(member, Attribute) and not member.docstring:
                del mod.members[name]
