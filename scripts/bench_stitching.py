"""Every ordered pair of six families mapped, beside scikit-learn's Ridge; prints Markdown.

    python scripts/bench_stitching.py

Latents of the dimensions and with the penalties of "All Roads Lead to Rome?" (to the
encoder, which it has not, those to its GAN; 1, Ridge's default, where it has none),
9,000 rows to fit and 100 to predict, correlated through 64 factors in common. Each side
has a process of its own and makes the same rows from the same seed, in float32, which
both compute in. They take turns. Both end with every pair's predictions; ``--weights``
has ours multiply out the weights too, as scikit-learn always does. Ours runs once
before, uncounted: it compiles. In brackets the process's seconds on all cores, by which
sides compare on a busy machine; memory is the process's peak, rows included.
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.side import Side, resident_peak, timed  # noqa: E402

FAMILIES = ("gan", "vae", "vqvae", "nf", "dm", "encoder")
FACTORS = 64
GB = 2**30
CHECKED = 256  # columns of every prediction that the sides compare


@dataclass(frozen=True, kw_only=True)
class Args:
    """Time our maps and scikit-learn's in turns."""

    n: int = 9000
    """rows to fit"""
    test: int = 100
    """rows to predict"""
    dims: tuple[int, ...] = (512, 512, 768, 12288, 12288, 512)
    """of gan, vae, vqvae, nf, dm and an encoder"""
    runs: int = 1
    """rounds that count"""
    weights: bool = False
    """form our weights too"""
    double: bool = False
    """scikit-learn in float64"""
    loo: bool = False
    """ours alone, each penalty chosen by leave-one-out"""


class Job(NamedTuple):
    args: Args
    ours: bool


class Ran(NamedTuple):
    """One round: by source the seconds (wall, of all cores), and of each pair some
    predictions."""

    sources: dict[str, tuple[float, float]]
    said: dict[tuple[str, str], np.ndarray]


def main(args: Args) -> None:
    if args.loo:
        with Side(serve, Job(args, True)) as ours:
            rounds = [ours.ask("run") for _ in range(args.runs)]
            _print_sources({"une-jax, leave-one-out": rounds})
            print(f"\nPeak memory {ours.ask('memory') / GB:.1f} GB.")
        return
    with Side(serve, Job(args, True)) as ours, Side(serve, Job(args, False)) as theirs:
        rounds = [(theirs.ask("run"), ours.ask("run")) for _ in range(args.runs)]
        memory = theirs.ask("memory"), ours.ask("memory")
        name = theirs.opened["name"]
    both: dict[str, list[Ran]] = {
        name: [r[0] for r in rounds],
        "une-jax": [r[1] for r in rounds],
    }
    _print_sources(both)
    off = max(
        np.abs(mine - rounds[0][0].said[pair]).max() / rounds[0][0].said[pair].std()
        for pair, mine in rounds[0][1].said.items()
    )
    ratio = np.median([_seconds(a) / _seconds(b) for a, b in rounds], axis=0)
    print(
        f"\n{len(rounds[0][0].said)} pairs of {args.n:,} rows: **{ratio[0]:.1f}x** "
        f"(**{ratio[1]:.1f}x**); peak "
        f"memory {memory[1] / GB:.1f} GB ({memory[0] / GB:.1f} GB); predictions differ "
        f"by at most {off:.0e} s.d."
    )


def _print_sources(sides: dict[str, list[Ran]]) -> None:
    """Seconds by source and side, medians over rounds."""
    print("| from | " + " | ".join(f"{side}, s" for side in sides) + " |")
    print("|---|" + "---:|" * len(sides))
    first = next(iter(sides.values()))[0]
    for source in (*first.sources, None):
        cells = []
        for rounds in sides.values():
            wall, cpu = np.median([_seconds(r, source) for r in rounds], axis=0)
            cells.append(f"{wall:.1f} ({cpu:.1f})")
        print(f"| {source or 'all'} | " + " | ".join(cells) + " |", flush=True)


def latents(args: Args) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each family the rows to fit and those to predict; of unit variance, about."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((args.n + args.test, FACTORS), np.float32)
    found = {}
    for name, d in zip(FAMILIES, args.dims, strict=False):
        x = rng.standard_normal((len(shared), d), np.float32)
        x += shared @ rng.standard_normal((FACTORS, d), np.float32) / 8
        x *= np.linspace(1.2, 0.2, d, dtype=np.float32)
        found[name] = x[: args.n], x[args.n :]
    return found


def penalty(source: str, target: str) -> float:
    from une_jax.stitching import PAPER_ALPHAS

    target = "gan" if target == "encoder" else target
    return PAPER_ALPHAS.get((source, target), 1.0)


def serve(job: Job) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """In the side's process: makes the rows, compiles, then serves ``run``."""
    rows = latents(job.args)
    if job.ours:
        from une_jax.cli.devices import configure_jax

        configure_jax()
        opened, each = {"name": "une-jax"}, _ours
        _round(rows, each, job.args)
    else:
        import sklearn

        precision = "float64" if job.args.double else "float32"
        opened = {"name": f"scikit-learn {sklearn.__version__} Ridge, {precision}"}
        each = _theirs
        if job.args.double:
            rows = {k: tuple(p.astype(np.float64) for p in v) for k, v in rows.items()}
    return opened, {
        "run": lambda: _round(rows, each, job.args),
        "memory": resident_peak,
    }


Each = Callable[[str, dict[str, Any], Args], dict[str, np.ndarray]]


def _round(rows: dict[str, Any], each: Each, args: Args) -> Ran:
    said, sources = {}, {}
    for source in rows:
        before = _cpu()
        wall, found = timed(lambda s=source: each(s, rows, args))
        sources[source] = wall, _cpu() - before
        said |= {(source, t): v[:, :CHECKED].copy() for t, v in found.items()}
    return Ran(sources, said)


def _seconds(ran: Ran, source: str | None = None) -> np.ndarray:
    """Wall and CPU, of one source or of all."""
    return np.sum([s for k, s in ran.sources.items() if source in (None, k)], axis=0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _ours(source: str, rows: dict[str, Any], args: Args) -> dict[str, np.ndarray]:
    import jax

    from une_jax import stitching

    x, x_new = rows[source]
    stitcher, found = stitching.Source(x), {}
    for target, (y, _) in rows.items():
        if target != source:
            alpha = "loo" if args.loo else penalty(source, target)
            found[target] = stitcher.fit(y, alpha=alpha)
            if args.weights:
                stitching.weight(found[target]).block_until_ready()
    said = stitching.predict_all(list(found.values()), jax.numpy.asarray(x_new))
    return dict(zip(found, map(np.asarray, said), strict=True))


def _theirs(source: str, rows: dict[str, Any], args: Args) -> dict[str, np.ndarray]:
    from sklearn.linear_model import Ridge

    x, x_new = rows[source]
    return {
        target: Ridge(penalty(source, target)).fit(x, y).predict(x_new)
        for target, (y, _) in rows.items()
        if target != source
    }


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
