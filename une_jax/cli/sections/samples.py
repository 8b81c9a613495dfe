"""Images of fresh noise, by prompt."""

from collections.abc import Callable, Sequence

import numpy as np

from une_jax.cli.generator import FEW_STEPS
from une_jax.cli.sections.decoding import SHOWN, Decoding
from une_jax.report import figures
from une_jax.report.chapter import Chapter


def write(
    decoding: Decoding, prompts: Sequence[str], tell: Callable[[float], None]
) -> Chapter:
    """A sheet for each generator: a row a prompt; for consistency models also in few
    steps."""
    chapter = Chapter(key="samples", title="Samples")
    chapter.say(
        "Images of fresh Gaussian noise. Where the latents have one shape, the noise is "
        "the same for every generator."
    )
    listed = "".join(f"; ({i + 1}) {p}" for i, p in enumerate(prompts))
    for i, g in enumerate(decoding.generators):
        shape = (SHOWN, *g.views[0].shape)
        fresh = np.random.default_rng(0).standard_normal(shape, np.float32)
        first = g.settings.prompt or ""
        conds = [g.condition(prompt) for prompt in (first, *prompts)]
        labels = ["", *(f"({j + 1})" for j in range(len(prompts)))]
        strips = [g.decode(fresh, cond) for cond in conds]
        note = ""
        if g.samples_in_few_steps:
            strips += [g.decode_few(fresh, cond) for cond in conds]
            labels += [f"{FEW_STEPS} steps {label}".strip() for label in labels]
            note = f" Below, in {FEW_STEPS} consistency steps."
        said = _quoted(first)
        if g.settings.guidance != 1:
            said += f" at guidance {g.settings.guidance:g}"
        chapter.sheet(
            f"samples_{g.name}",
            figures.sheet(np.stack(strips), rows=labels),
            f"{g.name}: {said}{listed}.{note}",
            f"{len(strips)} rows of {SHOWN} images sampled by {g.name}: {said}{listed}.",
        )
        tell((i + 1) / len(decoding.generators))
    return chapter


def _quoted(prompt: str) -> str:
    return f"prompt “{prompt}”" if prompt else "without a prompt"
