"""Is h-space what Asyrp says it is? Measured on a zoo of miniature faces, with controls.

    une-jax hspace fit zoo --out h.safetensors
    python scripts/measure_hspace.py --zoo zoo --directions h.safetensors smile.safetensors \\
        --attribute Wearing_Hat Male --out properties.png --csv properties.csv

Kwon et al. (arXiv 2210.10960, Sec. 5) call h-space homogeneous (one move does the same to
all images), linear (in strength, and of sums), robust (a random move of the same size does
little) and steady over timesteps (the mean move serves as well). Held-out images are
edited along the directions of `une-jax hspace fit`, and by functions that
scripts/train_asyrp.py trained, and the shipped regressor, which had no part in either,
says what changed. Each number stands beside a control; intervals are over the images.
"""

import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float32

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.asyrp import source as sources  # noqa: E402
from une_jax import asyrp, asyrp_training, hspace, zoo  # noqa: E402
from une_jax import hspace_properties as properties  # noqa: E402
from une_jax.cli import hspace_moves, inside, pictures, programs  # noqa: E402
from une_jax.cli.generator import Generator, generator_of_view  # noqa: E402
from une_jax.cli.layout import nhwc  # noqa: E402
from une_jax.cli.programs import FUNCTIONS, TABLES, Rule  # noqa: E402
from une_jax.cli.progress import Progress  # noqa: E402
from une_jax.errors import UneError  # noqa: E402
from une_jax.report import hspace_properties as report  # noqa: E402
from une_jax.report import judges, tables  # noqa: E402
from une_jax.report.hspace_properties import Effect, Estimate  # noqa: E402
from une_jax.zoo.atomic import write_bytes_atomically  # noqa: E402

FULL = {"full": 1.0, "half": 0.5, "minus": -1.0}  # strengths
Table = Float32[np.ndarray, "t i j k"]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure what is claimed of h-space on a zoo of miniature faces."""

    zoo: Path
    """the NoiseZoo's folder"""
    directions: tuple[Path, ...]
    """files of `une-jax hspace fit`, or of scripts/train_asyrp.py"""
    out: Path
    """the figure to write, a .png or .svg"""
    csv: Path | None = None
    """also write the table there"""
    attribute: tuple[str, ...] = ()
    """which of the directions (default: all); functions are all measured"""
    images: int = 40
    """held-out images"""
    strength: float = 1.0
    """of a direction, in differences of the class means: what is called 1 here"""
    t_edit: int = 0
    """directions move h at timesteps from here up; functions, where they learnt to"""
    view: str | None = None
    """which generator view of the zoo"""
    generator: str | None = None
    """PATH_OR_ID of the generator (default: found by its name)"""
    seed: int = 0
    """of the random moves and groups"""

    def __post_init__(self):
        if self.images < 3:
            raise UneError(f"--images {self.images}: use 3 or more")
        if self.out.suffix.lower() not in (".png", ".svg"):
            raise UneError(f"--out {self.out}: end its name in .png or .svg")


class Study:
    """The images, what edits them and what judges."""

    def __init__(self, args: Args):
        self.args, self.opened = args, zoo.open(args.zoo)
        view = pictures.generator_view(self.opened, args.view, args.generator)
        self.generator: Generator = generator_of_view(view, args.generator)
        inside.require_plain(self.generator)
        rows = self.opened.split("test")[: args.images]
        self.noise = np.asarray(self.opened[view.name][rows], np.float32)
        self.said = pictures.prompts_of(self.generator, self.opened, rows)
        self.schedule = self.generator.walk_params["steps"]
        self.judge = judges.miniature_judge()
        self.plain = self.generator.decode(self.noise, prompts=self.said)
        self.before = np.asarray(self.judge(self.plain).scores)

    def effects(
        self, moves: Any, amounts: Mapping[str, np.ndarray], t_edit: int, rule: Rule = TABLES
    ) -> dict[str, Effect]:  # fmt: skip
        """What each of the amounts, (m,) or (n, m), of the m moves does."""
        n = len(self.noise)
        each = [np.broadcast_to(a, (n, a.shape[-1])) for a in amounts.values()]
        made = inside.edit(
            self.generator,
            self.noise,
            moves,
            np.stack(each, 1).astype(np.float32),
            hspace.phases(self.schedule, t_edit=t_edit),
            symmetric=False,
            rule=rule,
            prompts=self.said,
        )
        found = {}
        for i, name in enumerate(amounts):
            apart = (made[:, i].astype(np.float32) - self.plain) / 255
            change = np.asarray(self.judge(made[:, i]).scores) - self.before
            found[name] = Effect(change, np.sqrt(np.square(apart).mean((1, 2, 3))))
        return found

    def controls(self, table: Table, key: jax.Array, edit: np.ndarray) -> dict[str, Table]:  # fmt: skip
        """Of a direction's table: moves that are as long at each step."""
        moves = jnp.asarray(table * edit[:, None, None, None])
        turned = np.array(moves)
        turned[edit] = turned[edit][::-1]
        made = {
            "random": properties.random_like(key, moves),
            "steady": properties.steady(moves),
            "backwards": properties.sized(jnp.asarray(turned), moves),
        }
        return {name: np.asarray(x) for name, x in made.items()}


def main(args: Args) -> None:
    study = Study(args)
    edit = np.asarray(hspace.phases(study.schedule, t_edit=args.t_edit).edit)
    if not edit.any():
        raise UneError(f"--t-edit {args.t_edit}: no step is left to edit")
    numbers: list[report.Number] = []
    over_time: dict[str, float] = {}
    with Progress(len(args.directions), "measuring", unit="file") as bar:
        for file in args.directions:
            loaded = hspace_moves.load([file])
            loaded.require(study.generator)
            if loaded.rule is FUNCTIONS:
                some, times = of_function(study, loaded)
            else:
                some, times = of_tables(study, loaded, edit)
            numbers += some
            over_time |= times
            bar.add(1)
    for name, cosine in over_time.items():
        only = Estimate(cosine, float("nan"), float("nan"))
        numbers.append(report.Number("steady", "cosine of moves over time", name, only, None, 1.0))  # fmt: skip
    table = report.rows(numbers)
    if args.csv:
        tables.write_csv(args.csv, table)
    drawing = report.draw(numbers)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    vector = args.out.suffix.lower() == ".svg"
    write_bytes_atomically(args.out, drawing.svg if vector else drawing.png)
    print(tables.text(table, digits=2))
    print(json.dumps({"images": len(study.noise), "figure": str(args.out)}))


def of_tables(
    study: Study, loaded: hspace_moves.Moves, edit: np.ndarray
) -> tuple[list[report.Number], dict[str, float]]:
    """Of directions: each with its controls, and every two neighbours' sum."""
    args = study.args
    loaded = loaded.of(args.attribute or loaded.names)
    moves = np.asarray(loaded.moves) * np.float32(args.strength)
    groups = random_groups(study, args.seed)
    keys = jax.random.split(jax.random.key(args.seed), len(moves))
    numbers, found, over_time = [], {}, {}
    for name, table, key in zip(loaded.names, moves, keys, strict=True):
        made = study.controls(table, key, edit)
        made["groups"] = np.asarray(properties.sized(jnp.asarray(groups), jnp.asarray(table)))  # fmt: skip
        stack = np.stack([table, *made.values()])
        one = np.eye(len(stack))
        amounts = {name: s * one[0] for name, s in FULL.items()}
        amounts |= dict(zip(made, one[1:], strict=True))
        found[name] = study.effects(stack, amounts, args.t_edit)
        numbers += report.claims(name, found[name])
        cosines = properties.over_time(jnp.asarray(table[edit]))
        over_time[name] = float(properties.off_diagonal(cosines))
    for (i, a), (j, b) in itertools.pairwise(enumerate(loaded.names)):
        both = study.effects(moves[[i, j]], {"both": np.ones(2)}, args.t_edit)["both"]
        numbers += report.sums(f"{a} + {b}", found[a]["full"], found[b]["full"], both)
    return numbers, over_time


def of_function(
    study: Study, loaded: hspace_moves.Moves
) -> tuple[list[report.Number], dict[str, float]]:
    """Of one f: what its moves of one image do to others, and their means."""
    (name,), n = loaded.names, len(study.noise)
    edit = np.asarray(hspace.phases(study.schedule, t_edit=loaded.t_edit).edit)
    own = moves_of(study, loaded, int(edit.sum()))
    mean = np.asarray(asyrp.mean_move(jnp.asarray(own)))
    made = study.controls(mean, jax.random.key(study.args.seed), edit)
    extra = {"mean": mean, **made}
    stack = np.concatenate([own, np.stack(list(extra.values()))])
    one = np.eye(len(stack))
    amounts = {"own": one[:n], "other": np.roll(one[:n], 1, axis=0)}
    amounts |= dict(zip(extra, one[n:], strict=True))
    effects = study.effects(stack, amounts, loaded.t_edit)
    strengths = {k: np.full(1, s) for k, s in FULL.items()}
    effects |= study.effects(loaded.moves, strengths, loaded.t_edit, FUNCTIONS)
    cosines = properties.over_time(jnp.asarray(mean[edit]))
    label = f"f: {name}"
    return report.claims(label, effects), {
        label: float(properties.off_diagonal(cosines))
    }


def moves_of(study: Study, loaded: hspace_moves.Moves, steps: int) -> Float32[np.ndarray, "n t i j k"]:  # fmt: skip
    """What f moved each image's h by along its own edited walk."""
    n = len(study.schedule.sampling.t)
    halves = programs.halves(study.generator.sd.unet.apply)
    f = jax.tree.map(lambda x: x[0], loaded.moves)

    @jax.jit
    def run(fixed, f, x_T):
        return asyrp_training.moves(
            halves, fixed.unet, x_T, fixed.schedule, fixed.cond,
            shift=asyrp.implicit, what=asyrp.Implicit(f, jnp.ones(n)), steps=steps,
        )  # fmt: skip

    fixed = sources.frozen(study.generator)
    return np.asarray(run(fixed, f, jnp.asarray(nhwc(study.noise))))


def random_groups(study: Study, seed: int) -> Table:
    """The difference of the mean h of two random halves of train images: what a
    direction of an attribute that nothing goes with would be."""
    rows = study.opened.split("train")[:200]
    sign = np.random.default_rng(seed).permutation(np.arange(len(rows)) % 2) * 2.0 - 1
    sampled = inside.Sampled(study.generator, study.opened)
    total, at = 0.0, 0
    for h in sampled.chunks(rows):
        some = sign[at : at + len(h)].astype(np.float32)
        total = total + np.tensordot(some, np.asarray(h), 1)
        at += len(h)
    return np.asarray(total, np.float32)


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except UneError as error:
        sys.exit(f"measure_hspace: {error}")
