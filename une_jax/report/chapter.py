"""A section of the report while it is written: its blocks, and the files beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from une_jax.report import page, tables
from une_jax.report.figures import Drawing
from une_jax.report.tables import Row


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number that answers a question, and the one it has to be held against.

    Attributes:
        question: what a reader wants to know.
        value: the answer, ``shown`` as text, ``of`` what it is.
        beside: the control or bound, shown likewise; None where there is none.
        verdict: a sentence that follows from the two numbers.
    """

    question: str
    value: float
    shown: str
    of: str
    beside: float | None
    beside_shown: str
    beside_of: str
    verdict: str


@dataclass(kw_only=True)
class Chapter:
    """What a section says, in the order in which it is said.

    ``files`` holds figures and tables by their names, ``numbers`` what the command
    returns as JSON.
    """

    key: str
    title: str
    blocks: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A paragraph."""
        self.blocks.append(page.paragraph(text))

    def note(self, text: str) -> None:
        """A paragraph in small print."""
        self.blocks.append(page.note(text))

    def heading(self, text: str) -> None:
        """The heading of a part."""
        self.blocks.append(page.heading(text))

    def chart(self, name: str, drawing: Drawing, caption: str, alt: str) -> None:
        """A chart, on the page and beside it as PNG and SVG."""
        name = file_name(name)
        self.files |= {f"{name}.png": drawing.png, f"{name}.svg": drawing.svg}
        self.blocks.append(page.chart(drawing, caption, alt))

    def sheet(self, name: str, png: bytes, caption: str, alt: str) -> None:
        """A sheet of images, on the page and beside it as PNG."""
        self.files[f"{file_name(name)}.png"] = png
        self.blocks.append(page.sheet(png, caption, alt))

    def table(
        self,
        name: str,
        rows: Sequence[Row],
        caption: str,
        *,
        names: dict[str, str] | None = None,
        digits: int = 3,
        total: bool = False,
        folded: str = "",
    ) -> None:
        """A table; its CSV beside the page has all rows, columns and digits.

        Args:
            names: the columns that the page shows, with their headings (default: all).
            folded: a line that opens the table on a click; "" shows it at once.
        """
        said = f"{caption} (`{self.keep(name, rows)}`)"
        block = page.table(rows, said, names=names, digits=digits, total=total)
        self.blocks.append(page.details(folded, block) if folded else block)

    def keep(self, name: str, rows: Sequence[Row]) -> str:
        """A table as CSV beside the page alone; the file's name."""
        name = f"{file_name(name)}.csv"
        self.files[name] = tables.csv_bytes(rows)
        return name

    def find(self, finding: Finding) -> None:
        """Something for the summary."""
        self.findings.append(finding)

    @property
    def section(self) -> page.Section:
        """As the page takes it."""
        return page.Section(self.key, self.title, self.blocks)


def two(value: float) -> str:
    """With two decimals, and no negative zero.

    >>> two(-0.004), two(-0.02)
    ('0.00', '-0.02')
    """
    return f"{round(value, 2) + 0.0:.2f}"


def file_name(text: str) -> str:
    """Letters, digits and underscores.

    >>> file_name("samples_mini-sd15")
    'samples_mini_sd15'
    """
    return re.sub(r"\W+", "_", text)
