"""Tables of an analysis: the same rows as text, Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from une_jax.zoo.atomic import write_bytes_atomically

Cell = str | int | float | None
Row = dict[str, Cell]
"""Column -> value, the columns of all rows in one order; NaN and None are unknown."""


def text(rows: Sequence[Row], *, digits: int = 3) -> str:
    """Aligned columns for a terminal.

    >>> print(text([{"view": "clip", "auc": 0.91234}, {"view": "dino", "auc": None}]))
    view    auc
    clip  0.912
    dino      –
    """
    names, cells = list(rows[0]), [_cells(row, digits) for row in rows]
    wide = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    sides = _sides(rows)
    lines = [
        "  ".join(
            f"{cell:{side}{w}}" for cell, side, w in zip(line, sides, wide, strict=True)
        )
        for line in (names, *cells)
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Row], *, digits: int = 3) -> str:
    """A table for a README.

    >>> print(markdown([{"view": "clip", "auc": 0.91234}]))
    | view | auc |
    |---|---:|
    | clip | 0.912 |
    """
    marks = ["---" if side == "<" else "---:" for side in _sides(rows)]
    lines = [f"| {' | '.join(rows[0])} |", f"|{'|'.join(marks)}|"]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in _cells(row, digits)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """All digits, unknown values as empty fields.

    >>> csv_bytes([{"view": "clip", "auc": None}])
    b'view,auc\\r\\nclip,\\r\\n'
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: _known(v) for k, v in row.items()} for row in rows)
    return stream.getvalue().encode()


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """:func:`csv_bytes` as a file; the folder is made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, csv_bytes(rows))


def _known(value: Cell) -> Cell:
    return None if value != value else value


def _sides(rows: Sequence[Row]) -> list[str]:
    """Words to the left, numbers to the right."""

    def words(name: str) -> bool:
        return any(isinstance(row[name], str) for row in rows)

    return ["<" if words(name) else ">" for name in rows[0]]


def _cells(row: Row, digits: int) -> list[str]:
    return [digits_of(value, digits) for value in row.values()]


def digits_of(value: Cell, digits: int = 3) -> str:
    """A cell as it is shown: unknown ones as a dash, small ones by their exponent.

    >>> [digits_of(v) for v in ("clip", 0.91234, 3e-5, 16, None, float("nan"))]
    ['clip', '0.912', '3.0e-05', '16', '–', '–']
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 10**-digits
        return f"{value:.1e}" if small else f"{value:.{digits}f}"
    return str(value)
