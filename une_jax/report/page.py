"""One HTML page with everything inside: no script, no second file, no network."""

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from une_jax.report import figures, style
from une_jax.report.tables import Row, digits_of

HEAVY = 250_000  # bytes of a PNG that goes into the page as WebP
_NIGHT = (
    f"<style>svg{{color:{figures.CHART_INK}}}"
    "@media (prefers-color-scheme:dark){svg{color:#dcdce2}}</style>"
)


class Section(NamedTuple):
    """A heading, where links find it, and its blocks of HTML."""

    key: str
    title: str
    blocks: Sequence[str]


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document, with a table of contents."""
    listed = "".join(f"<li>{link(s.key, s.title)}</li>" for s in sections)
    body = "".join(
        f'<section id="{s.key}"><h2>{html.escape(s.title)}</h2>{"".join(s.blocks)}'
        "</section>"
        for s in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style.CSS}</style></head>"
        f'<body><div class="page"><header><h1>{html.escape(title)}</h1>'
        f'<p class="lead">{html.escape(lead)}</p></header>'
        f'<nav aria-label="Contents"><ol>{listed}</ol></nav>'
        f"<main>{body}</main></div></body></html>\n"
    )


def link(key: str, text: str) -> str:
    """To a section of the page.

    >>> link("probes", "What is linear")
    '<a href="#probes">What is linear</a>'
    """
    return f'<a href="#{key}">{html.escape(text)}</a>'


def paragraph(text: str) -> str:
    """Plain text, escaped; what stands in backquotes is code.

    >>> paragraph("`a<b` & more")
    '<p><code>a&lt;b</code> &amp; more</p>'
    """
    return f"<p>{_inline(text)}</p>"


def note(text: str) -> str:
    """The same, for what a reader in a hurry may leave out."""
    return f'<p class="note">{_inline(text)}</p>'


def heading(text: str) -> str:
    """Of a part of a section."""
    return f"<h3>{html.escape(text)}</h3>"


def listing(text: str) -> str:
    """Text as it was written, such as a command."""
    return f"<pre>{html.escape(text)}</pre>"


def details(summary: str, block: str) -> str:
    """A block that opens on a click, and is printed in any case."""
    return f"<details><summary>{html.escape(summary)}</summary>{block}</details>"


def chart(drawing: figures.Drawing, caption: str, alt: str) -> str:
    """A chart as SVG, whose ink follows the reader's light or dark.

    ``alt`` says what the chart shows to who cannot see it.
    """
    svg = at_night(drawing.svg)
    wide = _width(svg) > 480
    return _figure("wide" if wide else "", "svg+xml", svg, caption, alt)


def sheet(png: bytes, caption: str, alt: str) -> str:
    """A sheet of images; a heavy one as WebP, its loss too small to see."""
    if len(png) <= HEAVY:
        return _figure("sheet", "png", png, caption, alt)
    stream = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.convert("RGB").save(stream, "WEBP", quality=90, method=6)
    return _figure("sheet", "webp", stream.getvalue(), caption, alt)


def at_night(svg: bytes) -> bytes:
    """The chart with its ink left to the reader's choice, and no ballast."""
    text = svg.decode()
    text = text[text.index("<svg") :].replace(figures.CHART_INK, "currentColor")
    text = re.sub(r"\s*\n\s*", " ", text)
    start = text.index(">") + 1
    return (text[:start] + _NIGHT + text[start:]).encode()


def table(
    rows: Sequence[Row],
    caption: str = "",
    *,
    names: dict[str, str] | None = None,
    digits: int = 3,
    total: bool = False,
) -> str:
    """Rows as a table, unknown numbers as a dash.

    Args:
        names: column -> heading, of the columns that are shown and in that order
            (default: all, by their own names).
        digits: after the point.
        total: whether the last row sums up the others.
    """
    shown = names or {name: name for name in rows[0]}
    words = {n for n in shown if any(isinstance(row[n], str) for row in rows)}
    upright = len(shown) > 9  # headings stand up where there are many

    def head(name: str) -> str:
        if name in words:
            return f'<th class="word">{html.escape(shown[name])}</th>'
        up = ' class="up"' if upright else ""
        return f"<th{up}><span>{html.escape(shown[name])}</span></th>"

    def line(row: Row, last: bool) -> str:
        cells = "".join(
            f'<td class="word">{html.escape(digits_of(row[n], digits))}</td>'
            if n in words
            else f"<td>{html.escape(digits_of(row[n], digits))}</td>"
            for n in shown
        )
        marked = ' class="total"' if last and total else ""
        return f"<tr{marked}>{cells}</tr>"

    body = "".join(line(row, i == len(rows) - 1) for i, row in enumerate(rows))
    below = f'<p class="caption">{_inline(caption)}</p>' if caption else ""
    return (
        f'<div class="table"><div class="scroll"><table><thead><tr>'
        f"{''.join(map(head, shown))}</tr></thead><tbody>{body}</tbody></table></div>"
        f"{below}</div>"
    )


def _figure(kind: str, media: str, data: bytes, caption: str, alt: str) -> str:
    source = f"data:image/{media};base64,{base64.b64encode(data).decode()}"
    marked = f' class="{kind}"' if kind else ""
    return (
        f'<figure{marked}><div class="scroll"><img alt="{html.escape(alt)}" '
        f'src="{source}"></div><figcaption>{_inline(caption)}</figcaption></figure>'
    )


def _width(svg: bytes) -> float:
    """In points, as matplotlib says it."""
    found = re.search(rb'width="([\d.]+)pt"', svg)
    return float(found.group(1)) if found else 0.0


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
