"""One HTML page with everything inside: no script, no second file, no network."""

import base64
import html
from collections.abc import Sequence
from typing import NamedTuple

from une_jax.report.tables import Cell

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 70rem; margin: 2.5rem auto;
       padding: 0 1.2rem; }
h1 { line-height: 1.2; margin-bottom: .2em; } h2 { margin-top: 2.2em; }
p.lead { font-size: 1.1em; opacity: .85; } .note { opacity: .75; font-size: .92em; }
figure { margin: 1em 0; overflow-x: auto; }
figure img { max-width: 100%; background: #fff; border-radius: 6px; padding: 6px;
             image-rendering: auto; }
figcaption { opacity: .75; font-size: .92em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86em; }
th { vertical-align: bottom; white-space: nowrap; }
th, td { padding: .22em .6em; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tbody tr:last-child { font-weight: 600; background: var(--soft); }
code { background: var(--soft); padding: .1em .3em; border-radius: 4px; }
"""


class Section(NamedTuple):
    """A heading, and its blocks of HTML (from ``paragraph``, ``figure``, ``table``)."""

    title: str
    blocks: Sequence[str]


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document."""
    body = "".join(
        f"<section><h2>{html.escape(s.title)}</h2>{''.join(s.blocks)}</section>"
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>'
        f"{body}</body></html>\n"
    )


def paragraph(text: str) -> str:
    """Plain text, escaped."""
    return f"<p>{html.escape(text)}</p>"


def figure(png: bytes, caption: str) -> str:
    """An image inside the page; the caption is also its alternative text."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Numbers with three decimals, unknown ones as a dash; the last row is the summary.

    A header breaks where it has a newline.
    """
    head = "".join(
        f"<th>{html.escape(h).replace(chr(10), '<br>')}</th>" for h in header
    )
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return "–" if value is None or value != value else f"{value:.3f}"
