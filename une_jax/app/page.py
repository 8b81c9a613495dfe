"""The whole page: a head, and its tabs."""

from typing import Any

import gradio as gr

from une_jax.app import pieces
from une_jax.app.controls import Controls
from une_jax.app.editing import WHERE, Editing
from une_jax.app.exploring import Exploring
from une_jax.app.studio import Studio
from une_jax.app.tabling import Tabling
from une_jax.app.told import told

FORGET = 3600  # seconds after which uploaded files are deleted


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio; ``serving.serve`` shows it."""
    zoo = studio.zoo
    name = zoo.path.resolve().name
    about = f"{zoo.rows.num_rows} images, {len(zoo.views)} views"
    with gr.Blocks(
        analytics_enabled=False,
        title=f"une-jax: {name}",
        fill_width=True,
        delete_cache=(FORGET, FORGET),
    ) as page:
        gr.HTML(pieces.head(name, about), elem_id="head")
        with gr.Tabs() as tabs:
            with gr.Tab("Edit", id="edit"):
                controls = Controls(studio)
            with gr.Tab("Explore", id="explore") as explore:
                exploring = Exploring(studio)
            with gr.Tab("Tables", id="tables"):
                tabling = Tabling(studio)
        editing = Editing(studio, controls)
        exploring.wire(controls.place, WHERE)
        exploring.first(explore.select, WHERE)
        tabling.wire(WHERE)

        def take(values: dict[Any, Any]) -> dict[Any, Any]:
            shown = editing.go(values, values[exploring.row])
            return {tabs: gr.update(selected="edit"), **shown}

        asked = {*controls.asked, exploring.row}
        taken = exploring.take.click(
            told(take), asked, [tabs, *controls.answered], show_progress="hidden", **WHERE
        )  # fmt: skip
        opened = page.load(
            told(editing.opened),
            set(controls.asked),
            controls.answered,
            show_progress="hidden",
            **WHERE,
        )
        editing.then_line(taken)
        editing.then_line(opened)
    return page
