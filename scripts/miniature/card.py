"""Model cards: how a shipped model was trained, written by what trained it."""

from pathlib import Path
from typing import Any, NamedTuple

from une_jax.miniature import factors


class Plan(NamedTuple):
    """What a member's training takes, and what its card says of it."""

    what: str  # one sentence
    steps: int
    faces: range  # of the training stream
    settings: dict[str, Any]  # batch, rate, seeds, ... in the order to be shown
    layout: str = (
        "in the published on-disk layout; `ports` loads it as it loads the big ones"
    )
    history: str = ""  # where the shipped weights' training differed


CARD = """\
---
license: apache-2.0
library_name: une-jax
tags: [miniature, synthetic]
---
# {name}

{what}

A member of une-jax's miniature zoo, for 64x64 faces painted by `une_jax.miniature.render`. Float16 safetensors
{layout}.

| training | |
|---|---|
| command | `python scripts/train_miniature.py {name}` |
| faces | {first:,} to {last:,} of the stream `factors.TRAINING_SEED` = {seed:,} |
| optimiser steps | {steps:,} |
{settings}

`une-jax faces` refuses that stream, so every face it makes is held out. Scores on such faces: the project's README,
printed by `python scripts/score_miniature.py`.
{history}"""


def write(folder: Path, name: str, plan: Plan) -> None:
    """``folder/README.md``."""
    rows = "\n".join(f"| {key} | {value} |" for key, value in plan.settings.items())
    text = CARD.format(
        name=name,
        what=plan.what,
        layout=plan.layout,
        first=plan.faces.start,
        last=plan.faces[-1],
        seed=factors.TRAINING_SEED,
        steps=plan.steps,
        settings=rows,
        history=f"\n{plan.history}\n" if plan.history else "",
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8")
