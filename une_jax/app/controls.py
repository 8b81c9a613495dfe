"""The components of the tab where pictures are edited, and where they stand."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from une_jax.app import pieces
from une_jax.app.pictures import MAX_BYTES
from une_jax.app.session import Session
from une_jax.app.space import Space
from une_jax.app.studio import Studio

SLIDERS = 6
REACH = 4.0  # standard deviations that a slider goes either way
FIRST = ("Eyeglasses", "Smiling", "Male", "Young")  # to begin with, where there are
PICK = "Pick a picture on the left, or give one of yours."

METHODS = {"probes": "probe", "class means": "means", "ridge regression": "ridge"}
HOW = {
    "projecting their directions out": "euclidean",
    "the likeliest move that keeps them": "conditional",
    "erasing every linear trace (LEACE)": "erasure",
}
UNITS = {
    "standard deviations": "sd",
    "the score to end at (0: the boundary)": "margin",
    "raw (the authors' alpha)": "raw",
}
CONTROLS = {"no": "off", "as a whole": "sphere", "channel by channel": "channel"}


class Controls:
    """All components, laid out inside a ``gr.Blocks``."""

    def __init__(self, studio: Studio):
        spaces = studio.spaces
        names = next(iter(spaces.values())).names()
        self.first = first(names)
        own = any(map(studio.pictures.own_prompts, studio.views))
        start = Session(sliders=tuple(self.first), active=self.first[0])
        self.session = gr.State(start)
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=3, min_width=260):
                self.gallery = gr.HTML("", js_on_load=pieces.CLICK, elem_id="gallery")
                with gr.Row(elem_classes="pager"):
                    self.back = gr.Button("‹", size="sm", min_width=36, elem_id="back")
                    self.where = gr.HTML("", elem_id="where", min_width=120)
                    self.on = gr.Button("›", size="sm", min_width=36, elem_id="on")
                self.file = gr.File(
                    label=f"or an image of yours, up to {MAX_BYTES >> 20} MB",
                    type="binary",
                    height=120,
                    elem_id="upload",
                )
                self.prompt = gr.Textbox(label="its prompt", visible=own, max_length=500)  # fmt: skip
            with gr.Column(scale=6, min_width=400, elem_classes="middle"):
                self.stage = gr.HTML(pieces.empty(PICK), elem_id="stage")
                self.strip = gr.HTML("", js_on_load=pieces.CLICK, elem_id="strip")
                self.links = gr.HTML("", elem_id="links")
                self.reading = gr.HTML("", elem_id="reading")
                judged = bool(studio.judges)
                with gr.Accordion("as the noise itself reads", open=False, visible=judged, elem_id="within"):  # fmt: skip
                    self.noise = gr.HTML("", elem_id="noise")
            with gr.Column(scale=4, min_width=300, elem_classes="levers"):
                self.changed = gr.Dropdown(
                    _named(names),
                    value=self.first,
                    multiselect=True,
                    max_choices=SLIDERS,
                    label="change",
                    elem_id="changed",
                )
                self.sliders = [
                    gr.Slider(
                        -REACH,
                        REACH,
                        0,
                        step=0.1,
                        label=pieces.words(self.first[i])
                        if i < len(self.first)
                        else "–",  # fmt: skip
                        visible=i < len(self.first),
                        buttons=[],
                        elem_id=f"slider{i}",
                    )
                    for i in range(SLIDERS)
                ]
                with gr.Row():
                    self.reset = gr.Button("Undo all", size="sm", elem_id="reset")
                    self.hold = gr.Button("Keep what it drags along", size="sm", elem_id="hold")  # fmt: skip
                self.keep = gr.CheckboxGroup(
                    _named([n for n in names if n not in self.first]),
                    label="keep as they are",
                    elem_id="keep",
                )
                self.left = gr.HTML("", elem_id="left")
                with gr.Accordion("How", open=False, elem_id="how"):
                    several = len(studio.views) > 1
                    places = {_where(s, several): place for place, s in spaces.items()}
                    self.place = _choice(places, "edit in")
                    self.method = _choice(METHODS, "directions learnt by")
                    self.how = _choice(HOW, "others kept by")
                    self.unit = _choice(UNITS, "sliders count")
                    self.control = _choice(CONTROLS, "norm of the noise held")

    @property
    def ways(self) -> dict[str, gr.Dropdown]:
        """What can be chosen in some spaces, by the field of a wish."""
        return {"method": self.method, "how": self.how, "control": self.control}

    def of(self, space: Space) -> dict[Any, Any]:
        """The choices that there are in a space."""
        units = [(words, unit) for words, unit in UNITS.items() if unit in space.units]
        shown = {c: gr.update(visible=n in space.ways) for n, c in self.ways.items()}
        return {self.unit: gr.update(choices=units), **shown}

    @property
    def asked(self) -> list[Any]:
        """What an edit depends on."""
        how = [self.place, self.unit, *self.ways.values()]
        return [self.session, self.changed, self.keep, self.prompt, *how, *self.sliders]

    @property
    def answered(self) -> list[Any]:
        """What an answer may change."""
        pick = [self.session, self.gallery, self.where]
        shown = [self.stage, self.links, self.left, self.reading, self.noise]
        levers = [self.changed, self.keep, self.unit, *self.ways.values()]
        return [*pick, *shown, *levers, *self.sliders]


def first(names: Sequence[str]) -> list[str]:
    """Those to begin with."""
    return [n for n in FIRST if n in names][:2] or [names[0]]


def changed_choices(names: Sequence[str], changed: Sequence[str]) -> dict[str, Any]:
    """What can be changed, and what is."""
    return gr.update(choices=_named(names), value=list(changed))


def kept_choices(
    names: Sequence[str], kept: Sequence[str], changed: Sequence[str]
) -> dict[str, Any]:
    """The boxes that can be ticked: all attributes but those that are changed."""
    free = [n for n in names if n not in changed]
    return gr.update(choices=_named(free), value=[n for n in kept if n in free])


def _where(space: Space, several: bool) -> str:
    return f"{space.words} of {space.view}" if several else space.words


def _named(names: Any) -> list[tuple[str, str]]:
    return [(pieces.words(name), name) for name in names]


def _choice(of: dict[str, str], label: str) -> gr.Dropdown:
    return gr.Dropdown(
        list(of.items()),
        value=next(iter(of.values())),
        label=label,
        filterable=False,
        visible=len(of) > 1,
    )
