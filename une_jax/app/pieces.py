"""Pieces of the page as HTML: whatever comes from a zoo is escaped, images are inside.

A piece that can be clicked has ``data-pick``; ``CLICK`` tells the server of it.
"""

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from une_jax import images
from une_jax.app.meter import Reading
from une_jax.app.pictures import Picture
from une_jax.app.studio import Edited
from une_jax.app.wish import Wish
from une_jax.errors import UneError

CLICK = """
element.addEventListener('click', (event) => {
  const picked = event.target.closest('[data-pick]');
  if (picked) trigger('pick', {at: picked.dataset.pick});
});
"""
PIXELATED = 128  # images up to this size are shown with their pixels
STRIP_EDGE = 192
NOTABLE = 0.5  # standard deviations: so much change of another attribute is pointed out
REACH = 3.0  # standard deviations that a track shows on either side


def gallery(
    pictures: UInt8[np.ndarray, "n h w 3"],
    rows: Sequence[int],
    titles: Sequence[str],
    chosen: int | None,
) -> str:
    """Small pictures to pick from."""
    buttons = []
    for picture, row, title in zip(pictures, rows, titles, strict=True):
        on = " on" if row == chosen else ""
        label = html.escape(title)
        buttons.append(
            f'<button class="tile{on}" data-pick="{row}" title="{label}">'
            f"{_img(picture, f'row {row}, {title}')}</button>"
        )
    return f'<div class="gallery">{"".join(buttons)}</div>'


def stage(picture: Picture, edited: Edited, wish: Wish) -> str:
    """The picture, what its noise gives back, and the edit with its amounts."""
    shown = []
    if picture.pixels is not None:
        shown.append(_figure(picture.pixels, html.escape(picture.title), "original"))
    again = "from its noise"
    if math.isfinite(picture.psnr):
        again += f" <small>{picture.psnr:.1f} dB</small>"
    shown.append(_figure(picture.back, again, "before"))
    told = "nothing changed yet"
    if edited.after is not picture.back:
        to = "to " if wish.unit == "margin" else ""
        moved = [f"{_words(n)} {to}{a:+.3g}" for n, a in wish.moved_to.items()]
        told = ", ".join(moved)
    shown.append(_figure(edited.after, told, "after"))
    return f'<div class="stage n{len(shown)}">{"".join(shown)}</div>'


def strip(
    pictures: UInt8[np.ndarray, "s h w 3"],
    labels: Sequence[str],
    name: str,
    now: int | None,
) -> str:
    """One attribute from less to more; ``now`` is where its slider stands."""
    tiles = []
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        on = " on" if i == now else ""
        tiles.append(
            f'<button class="step{on}" data-pick="{i}">'
            f"{_img(_within(picture), f'{name} at {label}')}<span>{label}</span></button>"
        )
    return (
        f'<div class="caption">{_words(name)}, from less to more; click one to go there</div>'
        f'<div class="strip">{"".join(tiles)}</div>'
    )


def links(picture: Picture, edited: Edited, settings: Mapping[str, Any]) -> str:
    """Downloads, inside the page: nothing is written on the server."""
    name = "_".join(str(part)[:12] for part in picture.id)
    text = json.dumps(settings, indent=2).encode()
    return (
        '<div class="links">'
        + _link(f"{name}_edited.png", "image/png", images.png(edited.after), "Picture")
        + _link(f"{name}_edited.json", "application/json", text, "Settings")
        + "</div>"
    )


def reading(found: Reading | None, wish: Wish) -> str:
    """Where each attribute was and is, as one view reads it; without a reading, that the
    noise has not changed."""
    if found is None:
        said = "The noise stays as it is: what is moved is in the UNet."
        return f'<div class="note">{said}</div>'
    first = [n for n in (*wish.names, *wish.keep) if n in found.names]
    rest = [n for n in found.names if n not in first]
    rows = "".join(_track(found, name, wish) for name in (*first, *rest))
    view = html.escape(found.view)
    title = f"read from the picture by {view}"
    note = "by an encoder that knows nothing of the edit"
    if found.view == wish.view:
        title = f"read from the noise, {view}"
        note = "the edit moves along these probes, so they must follow"
    return (
        f'<section class="reading"><h4>{title}</h4><p>{note}; hollow: before, filled: '
        f"after</p>{rows}</section>"
    )


def left(edited: Edited, kept: Sequence[str]) -> str:
    """How much of each direction is left beside those kept."""
    if not (edited.left and kept):
        return ""
    parts = [f"<b>{part:.0%}</b> ({_words(k)})" for k, part in edited.left.items()]
    return (
        '<div class="note">Of each step, so much still goes along the attribute\'s own '
        f"direction: {', '.join(parts)}.</div>"
    )


def head(name: str, about: str) -> str:
    """The page's title."""
    return f'<div class="head"><h1><b>une-jax</b> {html.escape(name)}</h1><p>{html.escape(about)}</p></div>'


def empty(text: str) -> str:
    """A line where something will be."""
    return f'<div class="empty">{html.escape(text)}</div>'


def card(image: UInt8[np.ndarray, "h w 3"], row: int, key: str, has: Sequence[str]) -> str:  # fmt: skip
    """One picture, and what is known of it."""
    listed = ", ".join(map(_words, has)) or "none of the attributes"
    caption = f"row {row}: {html.escape(key)}"
    return f'<div class="card">{_figure(image, caption, "one")}<p>{listed}</p></div>'


def whole(value: Any) -> int:
    """A row or a place, as a browser sends it.

    Raises:
        UneError: it is no number.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value[:12])
    raise UneError("that is no row of this zoo")


def words(name: str) -> str:
    """An attribute's name as people write it.

    >>> words("Wearing_Hat")
    'Wearing Hat'
    """
    return name.replace("_", " ")


def _track(reading: Reading, name: str, wish: Wish) -> str:
    i = reading.names.index(name)
    before, after = float(reading.before[i]), float(reading.after[i])
    a, b = (_place(x / float(reading.spread[i])) for x in (before, after))
    moved = (after - before) / float(reading.spread[i])
    kind = "changed" if name in wish.names else "kept" if name in wish.keep else "other"
    if kind != "changed" and abs(moved) >= NOTABLE:
        kind += " notable"
    was, now = (_percent(x) for x in (before, after))
    told = f"{moved:+.2f} sd; test AUC of the probe {float(reading.auc[i]):.2f}"
    return (
        f'<div class="track {kind}" title="{told}"><span class="name">{_words(name)}</span>'
        '<span class="rail"><i class="middle"></i>'
        f'<i class="bar" style="left:{min(a, b):.1f}%;width:{abs(a - b):.1f}%"></i>'
        f'<i class="was" style="left:{a:.1f}%"></i><i class="is" style="left:{b:.1f}%"></i>'
        f'</span><span class="odds">{was} → <b>{now}</b></span></div>'
    )


def _place(deviations: float) -> float:
    return 50 + 50 * max(-1.0, min(1.0, deviations / REACH))


def _percent(odds: float) -> str:
    chance = 1 / (1 + math.exp(-max(-50.0, min(50.0, odds))))
    return f"{100 * chance:.0f} %"


def _figure(image: UInt8[np.ndarray, "h w 3"], caption: str, kind: str) -> str:
    return (
        f'<figure class="{kind}">{_img(image, kind)}<figcaption>{caption}</figcaption>'
        "</figure>"
    )


def _img(image: UInt8[np.ndarray, "h w 3"], text: str) -> str:
    small = ' class="px"' if max(image.shape[:2]) <= PIXELATED else ""
    data = base64.b64encode(images.png(image)).decode()
    return f'<img{small} alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _within(image: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
    if max(image.shape[:2]) <= STRIP_EDGE:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((STRIP_EDGE, STRIP_EDGE))
    return np.asarray(picture)


def _link(file: str, kind: str, data: bytes, text: str) -> str:
    href = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<a download="{html.escape(file)}" href="{href}">↓ {text}</a>'


def _words(name: str) -> str:
    return html.escape(words(name))
