"""Which space edits best? Noise, the UNet's bottleneck, or text, head to head.

    python scripts/compare_spaces.py --zoo zoo --images faces --asyrp functions --out spaces

The same held-out faces, each lacking an attribute, are given it in every way that
une-jax knows (``scripts/spaces/ways.py``), each way at strengths of its own. The judge is
the miniature's regressor, which had no part in any of them. Ways are compared where the
attribute's score has changed by ``--change`` standard deviations: what else changed, who
the face still is, how far it went from the data, what an edit takes. What is measured
already is not measured again.

Asyrp's functions are files of ``scripts/train_asyrp.py --zoo``, named after the
attributes; without ``--asyrp`` that way is left out.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.spaces import case as cases  # noqa: E402
from scripts.spaces import costs, ways  # noqa: E402
from scripts.spaces.ways import Way  # noqa: E402
from une_jax import images, normalise  # noqa: E402
from une_jax.cli import hspace_moves, judging  # noqa: E402
from une_jax.cli.devices import configure_jax  # noqa: E402
from une_jax.cli.encoder import encoder_of_view  # noqa: E402
from une_jax.cli.progress import Progress  # noqa: E402
from une_jax.errors import UneError  # noqa: E402
from une_jax.report import contest, effects, figures, judges, tables  # noqa: E402
from une_jax.report.effects import Measured, Walk  # noqa: E402
from une_jax.zoo.atomic import write_bytes_atomically  # noqa: E402

NEAREST = 5
ARRAYS = ("change", "collateral", "identity", "missed", "distance")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Compare every way to edit on the same miniature faces."""

    zoo: Path
    """a NoiseZoo of miniature faces"""
    images: Path
    """the folder of faces that it was built from"""
    out: Path
    """folder for the tables, the figure and the pictures"""
    asyrp: Path | None = None
    """folder of Asyrp's functions, ATTRIBUTE.safetensors each"""
    view: str = "mini-sd15"
    """which generator view"""
    eyes: str = "mini-dinov3"
    """encoder view in which the distance from the data is measured"""
    attributes: tuple[str, ...] = ("Wearing_Hat", "Wearing_Necktie", "Male", "Smiling", "Eyeglasses")  # fmt: skip
    """what is added to faces that lack it"""
    count: int = 24
    """faces of each attribute"""
    limit: int = 500
    """images that h is learnt from"""
    change: float = 1.0
    """of the edited score, in its standard deviations, where ways are compared"""
    pictured: float = 1.5
    """the mean change that the pictures come nearest to"""
    shown: int = 0
    """which of each attribute's faces the pictures show"""


def main(args: Args) -> None:
    configure_jax()
    case = cases.of(args.zoo, args.images, args.view, args.attributes, args.count)
    begin(args)
    found = [
        *ways.in_noise(case),
        *ways.in_h(case, args.out, args.limit),
        *(ways.by_asyrp(case, args.asyrp) if args.asyrp else ()),
        *ways.by_text(case),
    ]
    judge, distance = judges.miniature_judge(), from_data(case, args.eyes)
    total = sum(args.count * len(w.walks) * (1 + len(w.steps)) for w in found)
    with Progress(total, "editing") as bar:
        entries = [
            contest.enter(
                way.name, measured(args, way, judge, distance, bar.add), args.change
            )  # fmt: skip
            for way in found
        ]
    rows = contest.rows(entries)
    took, each_walk = costs.seconds(found, args.count), walks(case, args)
    for row, way in zip(rows, found, strict=True):
        row |= {
            "ms an edit": 1000 * took[way.name],
            "GFLOP": each_walk[_walk_of(way)].flops / 1e9,
            "MB": each_walk[_walk_of(way)].scratch / 1e6,
            "learns from": way.learns,
        }
    each = contest.by_attribute(entries)
    tables.write_csv(args.out / "ways.csv", rows)
    tables.write_csv(args.out / "attributes.csv", each)
    write_bytes_atomically(
        args.out / "results.md", results(args, case, rows, each).encode()
    )
    write_bytes_atomically(
        args.out / "costs.png", contest.figure(entries, args.change).png
    )
    write_bytes_atomically(
        args.out / "pictures.png", pictures(case, found, entries, args)
    )
    print(tables.text(rows), tables.text(each), sep="\n\n")
    print(
        json.dumps({"out": str(args.out), "faces": args.count, "change": args.change})
    )


def begin(args: Args) -> None:
    """Marks the folder with all that its measures depend on.

    Raises:
        UneError: it holds those of something else.
    """
    functions = sorted(args.asyrp.glob("*.safetensors")) if args.asyrp else []
    own = ("view", "eyes", "attributes", "count", "limit")
    asked = {
        **{name: getattr(args, name) for name in own},
        "zoo": images.sha256(args.zoo / "manifest.json"),
        "asyrp": {f.stem: images.sha256(f) for f in functions if f.stem in args.attributes},
    }  # fmt: skip
    said, mark = json.dumps(asked, indent=2) + "\n", args.out / "settings.json"
    if mark.is_file() and mark.read_text() != said:
        raise UneError(f"{args.out} holds what was measured of other settings (see {mark}); choose another --out")  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(mark, said.encode())


def results(
    args: Args, case: cases.Case, rows: list[tables.Row], each: list[tables.Row]
) -> str:
    """The page of tables."""
    steps = case.opened[case.generator.name].view.settings["steps"]
    return "\n\n".join(
        [
            "# Which space edits best: tables",
            f"`python scripts/compare_spaces.py`: {args.count} held-out faces that lack an "
            f"attribute, {len(case.attributes)} attributes, {case.generator.name} in "
            f"{steps} steps. All numbers are at a change of {args.change:g} sd of the edited "
            "score, between the strengths that were walked; a dash: not reached.",
            tables.markdown(rows),
            "*collateral*: root mean square change of the other scores, image by image, in "
            "sd; *systematic*: of the mean over images. *vs first*: of the collateral, over "
            "the attributes that both reach, with 95 % intervals over the images; means of "
            "other columns are over what the way itself reaches. *identity*: cosine of the "
            "factors that no attribute changes. *psnr outside*: of the three quarters of "
            "the pixels that the edit changes least, dB. *from the data*: by how much the "
            f"distance to the {NEAREST} nearest train images grows, in {args.eyes}, relative "
            "to that of held-out images. *most*: largest mean change at any strength. *ms an "
            "edit*: decoding included, medians, in turn, warm. *GFLOP*: of the walk of one "
            f"image; *MB*: scratch of the compiled walk of a batch of {case.generator.batch_size}.",
            "## By attribute",
            tables.markdown(each),
            "*step*: in mean lengths of the noise; standard deviations of h along the move; "
            "times what Asyrp's function learnt; guidance scale.",
            "",
        ]
    )


def measured(
    args: Args,
    way: Way,
    judge: judges.Judge,
    distance: effects.Distance,
    done: Callable[[int], None],
) -> Measured:
    """What a way does, from its file in ``--out`` where that is there."""
    file = args.out / "measured" / f"{way.name.replace(' ', '_').replace(':', '')}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in ARRAYS}
        done(args.count * len(way.walks) * (1 + len(way.steps)))
        return Measured(
            walks=way.walks,
            steps=np.array(way.steps, np.float32),
            length=1.0,
            judge=judge.name,
            names=judge.names,
            **arrays,
        )
    found = effects.measure(
        way.strips,
        judge,
        way.walks,
        way.steps,
        args.count,
        distance=distance,
        done=done,
    )
    file.parent.mkdir(exist_ok=True)
    part = file.with_name(f"part-{file.name}")  # a killed run leaves no half
    np.savez(part, **{name: getattr(found, name) for name in ARRAYS})
    part.replace(file)
    return found


def from_data(case: cases.Case, view: str) -> effects.Distance:
    """How much further from the data an edited image is than the one that it was.

    The mean distance to the nearest of the zoo's train images, in an encoder's
    embeddings at length 1, in units of what held-out images have.
    """
    encoder = encoder_of_view(case.opened[view].view)
    unit = normalise.unit_rows
    train = unit(jnp.asarray(case.opened[view][case.train], jnp.float32))

    def far(x: np.ndarray) -> np.ndarray:
        """(n,) of embeddings."""
        rows = np.asarray(unit(jnp.asarray(x, jnp.float32)))
        apart = np.sqrt(np.maximum(2 - 2 * rows @ np.asarray(train).T, 0))
        return np.sort(apart, axis=1)[:, :NEAREST].mean(1)

    usual = far(case.opened[view][case.opened.split("test")]).mean()

    def distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        seen = (judging.embed(encoder, x) for x in (before, after))
        old, new = (far(x) for x in seen)
        return ((new - old) / usual).astype(np.float32)

    return distance


def pictures(
    case: cases.Case,
    found: list[Way],
    entries: list[contest.Entry],
    args: Args,
) -> bytes:
    """A row a way, a column an attribute: each a face as it was, and at the strength
    whose mean change is nearest to ``--pictured``."""
    grid = []
    for way, entry in zip(found, entries, strict=True):
        line = []
        for attribute in case.attributes:
            if attribute not in way.attributes:
                size = case.generator.size
                line += [np.full((size, size, 3), 255, np.uint8)] * 2
                continue
            w = way.attributes.index(attribute)
            reached = entry.curves.intended[0, w, 1:]
            best = int(np.argmin(np.abs(reached - args.pictured)))
            walk = Walk(attribute=attribute, way=way.name)
            strip = way.strips(np.array([args.shown]), [walk], np.array([way.steps[best]], np.float32))  # fmt: skip
            line += list(strip[0])
        grid.append(np.stack(line))
    columns = [c for a in case.attributes for c in ("", a.replace("_", " "))]
    return figures.sheet(
        np.stack(grid), rows=[way.name for way in found], columns=columns, tile=128
    )


def walks(case: cases.Case, args: Args) -> dict[str, costs.Cost]:
    files = [args.asyrp / f"{a}.safetensors" for a in case.attributes] if args.asyrp else []  # fmt: skip
    there = [file for file in files if file.is_file()]
    return costs.walks(case, hspace_moves.load(there[:1]) if there else None)


def _walk_of(way: Way) -> str:
    """Which compiled walk it is."""
    first = way.name.split(":")[0].lower()
    return first if first in ("noise", "h", "text") else "asyrp"


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except UneError as error:
        sys.exit(f"compare_spaces: {error}")
