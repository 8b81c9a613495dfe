"""A map as SVG, whose points can be clicked."""

import html

import numpy as np
from jaxtyping import Bool

from une_jax.app.atlas import Map

WIDE, TALL, EDGE = 900, 620, 34
REACH = 3.2  # standard deviations; what lies further out is drawn at the edge
HAVE, LACK = "#0072b2", "#e69f00"  # told apart by the colour-blind; one is hollow too


def scatter(
    found: Map, labels: Bool[np.ndarray, " n"], name: str, chosen: int | None
) -> str:
    """The points of a map: those of images that have the attribute ``name`` filled."""
    shown = np.clip(found.at / REACH, -1, 1)
    x = WIDE / 2 + shown[:, 0] * (WIDE / 2 - EDGE)
    y = TALL / 2 - shown[:, 1] * (TALL / 2 - EDGE)
    order = np.argsort(found.rows == chosen, kind="stable")  # the chosen one on top
    points = [
        _point(
            float(x[i]),
            float(y[i]),
            int(found.rows[i]),
            bool(labels[i]),
            int(found.rows[i]) == chosen,
        )  # fmt: skip
        for i in order
    ]
    words = html.escape(name.replace("_", " "))
    across, up = map(html.escape, found.axes)
    have = int(labels.sum())
    return (
        f'<div class="legend"><span><i style="background:{HAVE}"></i>{words} ({have})</span>'
        f'<span><i style="border:2px solid {LACK}"></i>not ({len(labels) - have})</span></div>'
        f'<div class="map"><svg viewBox="0 0 {WIDE} {TALL}" role="img" '
        f'aria-label="{len(labels)} images by {across} and {up}">'
        f'{"".join(points)}<text x="{WIDE / 2}" y="{TALL - 8}" text-anchor="middle">{across}'
        f'</text><text transform="rotate(-90)" x="{-TALL / 2}" y="16" text-anchor="middle">{up}'
        "</text></svg></div>"
    )


def _point(x: float, y: float, row: int, have: bool, chosen: bool) -> str:
    fill = f'fill="{HAVE}"' if have else f'fill="transparent" stroke="{LACK}" stroke-width="1.6"'  # fmt: skip
    on = ' class="on"' if chosen else ""
    return f'<circle{on} data-pick="{row}" cx="{x:.1f}" cy="{y:.1f}" r="{8 if chosen else 4.5}" {fill}/>'  # fmt: skip
