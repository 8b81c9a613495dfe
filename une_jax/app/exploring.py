"""The tab with a map of the zoo: points to look at, and to take into the other tab."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from une_jax.app import atlas, pieces
from une_jax.app.atlas import Map
from une_jax.app.controls import FIRST
from une_jax.app.memo import Memo
from une_jax.app.scatter import scatter
from une_jax.app.studio import Studio
from une_jax.app.told import told

Answer = dict[Any, Any]


class Exploring:
    """Builds the tab inside a ``gr.Blocks``. ``take`` is a button: edit this one."""

    def __init__(self, studio: Studio):
        self.studio, self.maps = studio, Memo[Map](8)
        kinds, names = atlas.kinds(studio.zoo), studio.zoo.attribute_names
        with gr.Row():
            with gr.Column(scale=7, min_width=420):
                with gr.Row():
                    self.kind = gr.Dropdown(list(kinds), value=kinds[0], label="map of", filterable=False, elem_id="map-kind")  # fmt: skip
                    self.name = gr.Dropdown(
                        [(pieces.words(n), n) for n in names],
                        value=next((n for n in FIRST if n in names), names[0]),
                        label="coloured by",
                        elem_id="map-colour",
                    )
                self.map = gr.HTML("", js_on_load=pieces.CLICK, elem_id="map")
            with gr.Column(scale=3, min_width=260):
                empty = "Click a point to see its picture."
                self.card = gr.HTML(pieces.empty(empty), elem_id="card")
                self.take = gr.Button("Edit this one", visible=False, elem_id="take")
        self.row = gr.State(None)

    def wire(self, place: Any, where: dict[str, Any]) -> None:
        """``place``: the component that says in which space pictures are edited."""
        asked = {self.kind, self.name, self.row, place}
        self.place = place
        for event in (self.kind.input, self.name.input):
            event(
                told(self.draw), asked, [self.map], show_progress_on=self.map, **where
            )
        self.map.pick(
            told(self.point), asked, [self.map, self.row, self.card, self.take], show_progress="hidden", **where
        )  # fmt: skip

    def first(self, event: Callable[..., Any], where: dict[str, Any]) -> None:
        """Draws the map the first time that its tab is looked at."""
        asked = {self.kind, self.name, self.row, self.place}
        event(told(self.draw), asked, [self.map], show_progress_on=self.map, **where)

    def draw(self, values: Answer) -> Answer:
        """The map as it is asked for."""
        return {self.map: self._drawn(values, values[self.row])}

    def point(self, values: Answer, event: gr.EventData) -> Answer:
        """A point: its picture and what is known of it."""
        row = pieces.whole(event.at)
        zoo = self.studio.zoo
        view = self.studio.spaces[values[self.place]].view
        small = self.studio.pictures.look(view, row)
        key = zoo.rows.column("key")[row].as_py()
        found = zip(zoo.attribute_names, zoo.attributes[row], strict=True)
        return {
            self.row: row,
            self.map: self._drawn(values, row),
            self.card: pieces.card(small, row, key, [n for n, has in found if has]),
            self.take: gr.update(visible=True),
        }

    def _drawn(self, values: Answer, chosen: int | None) -> str:
        zoo, kind, name = self.studio.zoo, values[self.kind], values[self.name]
        found = self.maps.get(kind, lambda: atlas.draw(zoo, kind))
        labels = zoo.attributes[found.rows, zoo.attribute_names.index(name)]
        return scatter(found, labels, name, chosen)
