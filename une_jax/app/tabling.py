"""The tab with the report's tables, each computed when it is first asked for."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from une_jax.app.memo import Memo
from une_jax.app.studio import Studio
from une_jax.app.told import told
from une_jax.errors import UneError
from une_jax.report import alignment, gaussian, leakage, probing, shared, spaces
from une_jax.report.tables import Row, csv_bytes, digits_of
from une_jax.zoo import Zoo

LIMIT = 2000  # rows that maps and shared spaces are fitted on


class Table(NamedTuple):
    """One that can be asked for: what it says, how it is made, its columns to show."""

    about: str
    make: Callable[[Zoo], list[Row]]
    columns: Callable[[str], bool] = lambda name: True


def probes(zoo: Zoo) -> list[Row]:
    """What is linear in each view."""
    views = probing.spaces(zoo)
    probed = [probing.probe_view(zoo, view) for view in views]
    return probing.table(zoo.attribute_names, probed)


def normality(zoo: Zoo) -> list[Row]:
    """How normal each view's projections are."""
    rows = min(gaussian.Protocol().rows, zoo.rows.num_rows)
    views = probing.spaces(zoo)
    return gaussian.table(zoo, views, gaussian.Protocol(projections=200, rows=rows))


def maps(zoo: Zoo) -> list[Row]:
    """How well each view predicts each other."""
    return alignment.table(zoo, _views(zoo, 2), limit=LIMIT)


def space(zoo: Zoo) -> list[Row]:
    """What a few shared dimensions keep."""
    prepared = spaces.prepare(zoo, _views(zoo, 2), limit=LIMIT)
    return shared.table(prepared, spaces.spaces(prepared), limit=LIMIT)


def leaks(zoo: Zoo) -> list[Row]:
    """What fresh noise over the clean latents still tells."""
    found, rows = [], leakage.rows_of(zoo, LIMIT)
    for view in zoo.manifest.views:
        if view.kind == "generator":
            found += leakage.stored(zoo, view, rows, None)
    return leakage.table(found)


TABLES = {
    "Probes": Table(
        "Test AUC of each attribute's linear probe, by view: 0.5 is a coin, the base rate "
        "what always giving the commoner answer scores in accuracy.",
        probes,
        lambda name: name in ("attribute", "base_rate") or name.endswith(" auc"),
    ),
    "Leakage": Table(
        "What probes read from the inverted noise (x_T), the clean latents (x0), and the "
        "same latents under fresh noise (forward): the control.",
        leaks,
    ),
    "Gaussianity": Table(
        "Projections accepted as normal at the 5 % level, in percent, beside the ceiling "
        "that exactly Gaussian data reach, and data that must fail.",
        normality,
        lambda name: name in ("data", "directions") or name.endswith("%"),
    ),
    "Maps between views": Table(
        f"Ridge regression from each view to each other, fitted on at most {LIMIT} train "
        "rows; R² is about the mean, on the test rows.",
        maps,
        lambda name: not name.startswith(("mean predictor", "mse")),
    ),
    "Shared space": Table(
        "Attribute probes on the first k dimensions of the space that the views share, "
        "beside views whose pairing was undone.",
        space,
    ),
}


class Tabling:
    """Builds the tab inside a ``gr.Blocks``."""

    def __init__(self, studio: Studio):
        self.zoo, self.made = studio.zoo, Memo[list[Row]](len(TABLES))
        self.which = gr.Radio(list(TABLES), value=None, label="table", elem_id="which")
        self.about = gr.Markdown("Choose a table; it is computed now and kept.")
        self.table = gr.Dataframe(interactive=False, visible=False, max_height=760, elem_id="table")  # fmt: skip
        self.csv = gr.HTML("", elem_id="csv")

    def wire(self, where: dict[str, Any]) -> None:
        """Sets off what the tab does."""
        out = [self.about, self.table, self.csv]
        self.which.input(told(self.show), self.which, out, show_progress_on=self.about, **where)  # fmt: skip

    def show(self, name: str) -> tuple[Any, ...]:
        """A table, and a link to all of it as CSV."""
        if name not in TABLES:
            raise UneError(f"no table {name!r}")
        table = TABLES[name]
        rows = self.made.get(name, lambda: table.make(self.zoo))
        shown = [c for c in rows[0] if table.columns(c)]
        heads = [c.removesuffix(" auc").replace("_", " ") for c in shown]
        cells = [[_cell(row[c]) for c in shown] for row in rows]
        told = [[digits_of(row[c], 3) for c in shown] for row in rows]
        value = {"headers": heads, "data": cells, "metadata": {"display_value": told}}
        return table.about, gr.update(value=value, visible=True), _link(name, rows)


def _views(zoo: Zoo, least: int) -> Sequence[str]:
    kinds = ("generator", "encoder")
    found = [view.name for view in zoo.manifest.views if view.kind in kinds]
    if len(found) < least:
        raise UneError(f"this needs {least} views, and the zoo has {len(found)}")
    return found


def _cell(value: Any) -> Any:
    """What is sorted by: unknown numbers are nothing."""
    return None if value is None or value != value else value


def _link(name: str, rows: list[Row]) -> str:
    data = base64.b64encode(csv_bytes(rows)).decode()
    file = name.lower().replace(" ", "_") + ".csv"
    return (
        f'<div class="links"><a download="{file}" href="data:text/csv;base64,{data}">'
        "↓ all columns as CSV</a></div>"
    )
