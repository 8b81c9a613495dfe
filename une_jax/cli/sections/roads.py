"""The roads of a report: what ``une-jax stitch`` does, briefly, with what is at hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

from une_jax import sources
from une_jax.cli.decoders import decodable, decoder_of, family_word, require_found
from une_jax.cli.eyes import eyes_of
from une_jax.report.chapter import Chapter
from une_jax.report.originals import squares
from une_jax.report.roads.pairs import How
from une_jax.report.roads.pictures import Decoder
from une_jax.report.roads.places import Place
from une_jax.report.roads.rows import choose
from une_jax.report.roads.study import Wanted, run
from une_jax.report.sections import roads
from une_jax.report.subject import Subject

PICTURES = 32  # images decoded on each road
PHASES = {"maps": 0.0, "journeys": 0.3, "pictures": 0.4}  # where each begins


def write(
    subject: Subject,
    images: Path | None,
    models: Mapping[str, str],
    judge: str | None,
    tell: Callable[[float], None],
) -> Chapter:
    """Every latent, noise and embedding, mapped to every view that decodes."""
    opened = subject.zoo
    views = {v.name: v for v in subject.views("latent", "generator", "encoder")}
    place = Place(
        name="images",
        zoo=opened,
        rows=choose(opened),
        scores=subject.scores,
        originals=squares(opened, sources.open(images)) if images else None,
    )
    wanted = Wanted(
        sources=list(views),
        targets=[n for n, v in views.items() if decodable(v, opened)],
        how=How(
            families={n: family_word(v) for n, v in views.items()},
            models={n: v.weights_sha256 for n, v in views.items()},
        ),
        pictures=PICTURES,
    )
    targets = [views[name] for name in wanted.targets]
    for view in targets:
        require_found(opened, view, models)
    eyes = eyes_of(
        opened,
        lpips=None,
        inception=None,
        features=None,
        judge=judge,
        sizes=[int(view.config["size"]) for view in targets],
        faces=subject.scores is not None,
    )

    def load(target: str) -> Decoder:
        return decoder_of(opened, views[target], models, rows=PICTURES)

    def told(phase: str, part: float) -> None:
        after = [at for at in PHASES.values() if at > PHASES[phase]]
        end = min(after, default=1.0)
        tell(PHASES[phase] + part * (end - PHASES[phase]))

    return roads.write(run((place,), wanted, load, eyes, told))
