"""The tab where pictures are edited: what each of its components sets off."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

import une_jax
from une_jax.app import pieces
from une_jax.app.controls import (
    PICK,
    REACH,
    SLIDERS,
    Controls,
    changed_choices,
    first,
    kept_choices,
)
from une_jax.app.pictures import Picture
from une_jax.app.session import Session
from une_jax.app.studio import Studio
from une_jax.app.told import plain, told
from une_jax.app.wish import Wish

STEPS = 9  # pictures of a strip
QUICK = 0.3  # seconds of an edit: then the strip follows the slider as it moves
DEVICE = "device"  # all that computes waits in one queue

Answer = dict[Any, Any]
WHERE: dict[str, Any] = {
    "concurrency_id": DEVICE,
    "concurrency_limit": 1,
    "api_visibility": "private",
}
_HOW: dict[str, Any] = {**WHERE, "show_progress": "hidden", "trigger_mode": "always_last"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the page's components say, once read."""

    session: Session
    changed: Sequence[str]
    prompt: str
    wish: Wish


class Editing:
    """Answers the controls. A handler takes all their values, gives the new ones."""

    def __init__(self, studio: Studio, controls: Controls):
        self.studio, self.page = studio, controls
        self.count = studio.zoo.rows.num_rows
        self.seconds = 0.0
        """That the last edit took."""
        c = controls
        self._on(c.back.click, lambda values: self.turn(values, -1), line=False)
        self._on(c.on.click, lambda values: self.turn(values, 1), line=False)
        self._on(c.gallery.pick, self.pick)
        loaded = self._on(c.file.upload, self.upload, extra=[c.file], shows=c.stage)
        for ended in (loaded.success, loaded.failure):  # room for the next one
            ended(lambda: None, None, c.file, **_HOW)
        for i, slider in enumerate(c.sliders):
            moved = self._on(slider.input, self._slid(i), line=False, last=True)
            moved.success(told(self.trail), set(c.asked), c.strip, **_HOW)
            slider.release(told(self.line), set(c.asked), c.strip, **_HOW)
        self._on(c.strip.pick, self.step)
        self._on(c.changed.input, self.choose)
        self._on(c.keep.input, self.again)
        self._on(c.hold.click, self.entangled)
        for ask in (c.reset.click, c.unit.input, c.method.input):
            self._on(ask, self.rest)
        self._on(c.place.input, self.enter, shows=c.stage)  # its model may have to load
        for choice in (c.how, c.control):
            self._on(choice.input, self.again)

    def _on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Answer],
        *,
        extra: Sequence[Any] = (),
        shows: Any = None,
        line: bool = True,
        last: bool = False,
    ) -> Any:
        """``line``: the strip follows; ``last``: of many at once, the last is answered."""
        c = self.page
        done = event(
            told(handler),
            {*c.asked, *extra},
            c.answered,
            show_progress="hidden" if shows is None else "full",
            show_progress_on=shows,
            trigger_mode="always_last" if last else "multiple",
            **WHERE,
        )
        if line:
            self.then_line(done)
        return done

    def then_line(self, event: Any) -> None:
        """After this, the strip anew."""
        c = self.page
        event.success(told(self.line), set(c.asked), c.strip, **_HOW)

    def turn(self, values: Answer, by: int = 0) -> Answer:
        """Another page of the gallery."""
        asked = self._read(values)
        return self._gallery(asked.session.turned(by, self.count), asked.wish.view)

    def pick(self, values: Answer, event: gr.EventData) -> Answer:
        """A row of the gallery."""
        return self.go(values, pieces.whole(event.at))

    def go(self, values: Answer, row: int) -> Answer:
        """A row of the zoo, with nothing changed yet."""
        asked = self._read(values)
        self.studio.pictures.row(
            asked.wish.view, row
        )  # before the page believes it is there
        return self._fresh(asked, asked.session.at(row))

    def upload(
        self,
        values: Answer,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Answer:
        """An image file: checked, then inverted."""
        asked, data = self._read(values), values[self.page.file]
        progress(0.1, desc="reading the image")
        name = self.studio.pictures.admit(data or b"")
        progress(0.3, desc="turning it into noise")
        self.studio.pictures.upload(asked.wish.view, name, asked.prompt)
        return self._fresh(asked, asked.session.but(picture=("upload", name)))

    def step(self, values: Answer, event: gr.EventData) -> Answer:
        """A picture of the strip: its slider goes there."""
        asked, i = self._read(values), pieces.whole(event.at)
        name = _active(asked)
        if name is None or not 0 <= i < STEPS:
            return {}
        wish = asked.wish.moved(name, self._places(asked.wish, name)[i])
        slider = self.page.sliders[asked.changed.index(name)]
        return {slider: wish.amounts[name], **self._show(asked.session, wish, asked)}

    def choose(self, values: Answer) -> Answer:
        """Other attributes to change; those that stay keep their sliders' values."""
        was = self._read(values, names=values[self.page.session].sliders)
        chosen = values[self.page.changed]
        fresh = [n for n in chosen if n not in was.session.sliders]
        active = fresh[-1] if fresh else was.session.active
        session = was.session.but(sliders=tuple(chosen), active=active)
        kept = [n for n in values[self.page.keep] if n not in chosen]
        rest = self._at_rest(session, was.wish, chosen, was.prompt)
        amounts = {n: was.wish.amounts.get(n, rest[n]) for n in chosen}
        wish = _other(was.wish, amounts=amounts, keep=tuple(kept))
        names = self.studio.at(wish).names(wish.method)
        return {
            self.page.session: session,
            self.page.keep: kept_choices(names, kept, chosen),
            **self._sliders(wish),
            **self._show(session, wish, was),
        }

    def enter(self, values: Answer) -> Answer:
        """Another space: what can be changed there, with nothing changed yet."""
        c, space = self.page, self.studio.spaces[values[self.page.place]]
        names = space.names(values[c.method])
        changed = [n for n in values[c.changed] or () if n in names] or first(names)
        kept = [n for n in values[c.keep] or () if n in names and n not in changed]
        unit = values[c.unit] if values[c.unit] in space.units else space.units[0]
        there = {**values, c.changed: changed, c.keep: kept, c.unit: unit}
        asked = self._read(there | dict.fromkeys(c.sliders, 0))
        session = asked.session.but(sliders=tuple(changed), active=changed[0])
        choices = c.of(space)
        choices[c.unit]["value"] = unit
        return {
            **choices,
            c.changed: changed_choices(names, changed),
            c.keep: kept_choices(names, kept, changed),
            **self._fresh(asked, session),
        }

    def rest(self, values: Answer) -> Answer:
        """All sliders to where nothing is changed."""
        asked = self._read(values)
        return self._fresh(asked, asked.session)

    def again(self, values: Answer) -> Answer:
        """The same picture and sliders, in another way."""
        asked = self._read(values)
        return self._show(asked.session, asked.wish, asked)

    def entangled(self, values: Answer) -> Answer:
        """Keeps those whose directions are closest to the active one's."""
        asked = self._read(values)
        name, wish = _active(asked), asked.wish
        near = self.studio.at(wish).entangled(name) if name else ()
        more = tuple(n for n in near if n not in (*asked.changed, *wish.keep))
        if not more:
            by = plain(pieces.words(name or "it"))
            gr.Info(f"Nothing more is dragged along by {by}.")
            return {}
        wish = _other(wish, keep=(*wish.keep, *more))
        return {self.page.keep: list(wish.keep), **self._show(asked.session, wish, asked)}  # fmt: skip

    def line(self, values: Answer) -> str:
        """The strip of the slider that was moved last."""
        asked = self._read(values)
        name, wish = _active(asked), asked.wish
        picture = self._picture(asked.session, wish.view, asked.prompt)
        if picture is None or name is None:
            return ""
        at = self._places(wish, name)
        images = self.studio.strip(picture, wish, name, at)
        near = int(np.argmin([abs(a - wish.amounts[name]) for a in at]))
        here = abs(at[near] - wish.amounts[name]) < 0.1 * (at[1] - at[0])
        labels = [f"{a:+.3g}" if abs(a) > 1e-9 else "0" for a in at]
        return pieces.strip(images, labels, name, near if here else None)

    def trail(self, values: Answer) -> Any:
        """The strip while its slider moves, by keys too: of a model that takes its time,
        not before the slider is let go."""
        return self.line(values) if self.seconds < QUICK else gr.skip()

    def opened(self, values: Answer) -> Answer:
        """A page that has just been opened: the first pictures, and the first of them."""
        return self.go(values, 0)

    def _slid(self, i: int) -> Callable[[Answer], Answer]:
        def slide(values: Answer) -> Answer:
            asked = self._read(values)
            name = asked.changed[i] if i < len(asked.changed) else None
            session = asked.session.but(active=name)
            return {self.page.session: session, **self._show(session, asked.wish, asked)}  # fmt: skip

        return slide

    def _read(self, values: Answer, names: Sequence[str] | None = None) -> Asked:
        """``names``: whose sliders they are, where not those of ``changed``."""
        c = self.page
        session: Session = values[c.session]
        changed: list[str] = values[c.changed] or []
        names = changed if names is None else names
        amounts = zip(names, (values[s] for s in c.sliders), strict=False)
        space = self.studio.spaces[values[c.place]]
        wish = Wish(
            view=space.view,
            space=space.where,
            amounts={name: float(amount or 0) for name, amount in amounts},
            keep=tuple(n for n in values[c.keep] or () if n not in names),
            unit=values[c.unit],
            **{field: values[c.ways[field]] for field in space.ways},
        )
        return Asked(session=session, changed=changed, prompt=values[c.prompt] or "", wish=wish)  # fmt: skip

    def _picture(self, session: Session, view: str, prompt: str) -> Picture | None:
        if session.picture is None:
            return None
        kind, which = session.picture
        if kind == "row":
            return self.studio.pictures.row(view, which)
        return self.studio.pictures.upload(view, which, prompt if self.studio.pictures.own_prompts(view) else "")  # fmt: skip

    def _fresh(self, asked: Asked, session: Session) -> Answer:
        """A session's picture with nothing changed."""
        rest = self._at_rest(session, asked.wish, asked.changed, asked.prompt)
        wish = _other(asked.wish, amounts=rest)
        return {
            **self._gallery(session, wish.view),
            **self._sliders(wish),
            **self._show(session, wish, asked),
        }

    def _at_rest(self, session: Session, wish: Wish, names: Sequence[str], prompt: str) -> dict[str, float]:  # fmt: skip
        picture = self._picture(session, wish.view, prompt)
        if picture is None:
            return dict.fromkeys(names, 0.0)
        space = self.studio.at(wish)
        return {name: space.rest(picture, wish, name) for name in names}

    def _show(self, session: Session, wish: Wish, asked: Asked) -> Answer:
        c, picture = self.page, self._picture(session, wish.view, asked.prompt)
        if picture is None:
            return {c.stage: pieces.empty(PICK)}  # fmt: skip
        start = time.monotonic()
        edited = self.studio.edit(picture, wish)
        self.seconds = time.monotonic() - start
        changed = edited.after is not picture.back
        settings = {
            "une_jax": une_jax.__version__,
            "picture": {picture.id[0]: picture.id[1], "name": picture.title},
            "prompt": picture.prompts,
            "model": self.studio.zoo[wish.view].view.model_id,
            "edit": self.studio.at(wish).settings(wish),
            "left": edited.left,
            "command": self._command(picture, wish) if changed else None,
        }
        return {
            c.stage: pieces.stage(picture, edited, wish),
            c.links: pieces.links(picture, edited, settings),
            c.left: pieces.left(edited, wish.keep),
            # What reads the picture itself comes first.
            c.reading: pieces.reading((edited.noise, *edited.seen)[-1], wish),
            c.noise: pieces.reading(edited.noise, wish),
        }

    def _command(self, picture: Picture, wish: Wish) -> str | None:
        """What does the same to an image file."""
        image = picture.title if picture.id[0] == "row" else "IMAGE"
        wish, prompt = _other(wish, amounts=wish.moved_to), (picture.prompts or [""])[0]
        return self.studio.at(wish).command(wish, image, prompt)

    def _gallery(self, session: Session, view: str) -> Answer:
        c, rows = self.page, session.rows(self.count)
        keys = self.studio.zoo.rows.column("key").slice(rows.start, len(rows))
        small = self.studio.pictures.thumbnails(view, rows)
        tiles = pieces.gallery(small, rows, keys.to_pylist(), session.row)
        where = f"{rows.start}–{rows.stop - 1} of {self.count}"
        return {c.session: session, c.gallery: tiles, c.where: where}

    def _sliders(self, wish: Wish) -> Answer:
        """Those of a wish, shown and named; the others hidden."""
        found, names = {}, [*wish.names, *[None] * SLIDERS]
        for slider, name in zip(self.page.sliders, names, strict=False):
            if name is None:
                found[slider] = gr.update(visible=False, value=0)
                continue
            low, high = self.studio.at(wish).span(wish, name, REACH)
            found[slider] = gr.update(
                visible=True,
                label=self._label(wish, name),
                minimum=round(low, 2),
                maximum=round(high, 2),
                step=0.1 if wish.unit == "sd" else round((high - low) / 80, 3),
                value=round(wish.amounts[name], 3),
            )
        return found

    def _label(self, wish: Wish, name: str) -> str:
        """How well the attribute is read there, where that is known, is beside it."""
        auc = self.studio.at(wish).auc().get(name)
        return pieces.words(name) + ("" if auc is None else f"  (AUC {auc:.2f})")

    def _places(self, wish: Wish, name: str) -> list[float]:
        low, high = self.studio.at(wish).span(wish, name, REACH)
        return np.linspace(low, high, STEPS).tolist()


def _active(asked: Asked) -> str | None:
    """The attribute that the strip is of: moved last, or the first there is."""
    if asked.session.active in asked.changed:
        return asked.session.active
    return asked.changed[0] if asked.changed else None


def _other(wish: Wish, **changes: Any) -> Wish:
    return Wish(**{**vars(wish), **changes})
