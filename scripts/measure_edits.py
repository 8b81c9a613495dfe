"""Does keeping others help an edit, and what does it depend on? Measured on miniature faces.

    python scripts/measure_edits.py --out edits [--jobs 8] [--quick]

Builds one NoiseZoo of painted faces for each inversion method and number of steps,
edits held-out faces of each in every way (`une-jax effects`), and writes, beside each
case's own tables and figures, ``results.md``, ``results.csv`` and ``results.png``. What
is there is not done again. On a GPU, ``--jobs`` lets some cases compile while others
compute; on a CPU one at a time is best, and ``--quick`` is a first look in some minutes.
"""

import concurrent.futures as cf
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from une_jax.cli.faces import ATTRIBUTES, IMAGES, Faces
from une_jax.miniature import factors, truth
from une_jax.report import charts, tables
from une_jax.report.tables import Row
from une_jax.zoo.atomic import write_bytes_atomically

Method = Literal["ddim", "fixed-point", "exact", "dpm-encoder"]
METHODS: tuple[Method, ...] = ("ddim", "fixed-point", "exact", "dpm-encoder")
QUICK = ("Smiling", "Eyeglasses", "Wearing_Lipstick", "Young")
KEPT = ("euclidean", "conditional", "erasure")
SHOWN = ("plain", *KEPT, "pattern")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure edits of miniature faces by inversion method and number of steps."""

    out: Path
    """folder for faces/, zoos/ and the results"""
    quick: bool = False
    """400 faces, four attributes, four images, 12 steps: does it run?"""
    faces: int = 2500
    """how many; four fifths of them teach the directions"""
    seed: int = 7
    """which faces"""
    generator: str = "mini-sd15"
    """a member of the miniature"""
    method: tuple[Method, ...] = METHODS
    """ways to invert"""
    steps: tuple[int, ...] = (12, 25, 50, 100)
    """numbers of steps"""
    images: int = 12
    """held-out faces that are edited"""
    step: tuple[float, ...] = (-0.6, -0.3, -0.15, 0.15, 0.3, 0.6)
    """how far, in mean lengths of the noise"""
    change: float = 0.5
    """ways are compared at this change of the edited score, in standard deviations"""
    batch_size: int | None = None
    """images on the device at once (default: the commands' own)"""
    jobs: int = 1
    """cases at a time"""

    def __post_init__(self):
        if self.quick:
            for name, value in {
                "faces": 400,
                "images": 4,
                "steps": (12,),
                "step": (-0.3, 0.3, 0.6),
            }.items():
                object.__setattr__(self, name, value)


class Case(NamedTuple):
    """One way to invert."""

    method: str
    steps: int

    @property
    def name(self) -> str:
        return f"{self.method}_{self.steps}"


def main(args: Args) -> None:
    faces = args.out / "faces"
    claim(args)
    Faces(out=faces, n=args.faces, seed=args.seed).run()
    cases = [Case(m, s) for m in args.method for s in args.steps]
    start = time.monotonic()
    with cf.ThreadPoolExecutor(args.jobs) as pool:
        # The dearest first, so that none is left alone at the end.
        waiting = [pool.submit(measured, args, case) for case in sorted(cases, key=_cost)]  # fmt: skip
        for done in cf.as_completed(waiting):
            case, took = done.result()
            passed = time.monotonic() - start
            print(f"{case.name}: {took:.0f} s, {passed:.0f} s in all", file=sys.stderr, flush=True)  # fmt: skip
    write(args, cases)
    print(args.out / "results.md")


def claim(args: Args) -> None:
    """Refuses a folder of other settings, whose numbers would be taken for these."""
    names = ("quick", "generator", "images", "step", "change")
    asked = json.dumps({name: getattr(args, name) for name in names})
    mark = args.out / "settings.json"
    if mark.is_file() and (found := mark.read_text().strip()) != asked:
        sys.exit(f"{args.out} holds results of {found}; choose another --out")
    args.out.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(mark, f"{asked}\n".encode())


def measured(args: Args, case: Case) -> tuple[Case, float]:
    """Builds and measures a case, each in a process of its own, unless it is there."""
    start = time.monotonic()
    result, folder = args.out / f"{case.name}.json", args.out / "zoos" / case.name
    if not result.exists():
        faces, batch = args.out / "faces", _option("--batch-size", args.batch_size)
        _une_jax(
            *("build", "--images", faces / IMAGES, "--attributes", faces / ATTRIBUTES),
            *("--generator", args.generator, "--steps", case.steps),
            *("--method", case.method, "--round-trip", "none", "--out", folder, *batch),
        )
        said = _une_jax(
            *("effects", folder, "--truth", faces / truth.FILE, "--judge", "regressor"),
            *("--images", args.images, "--change", args.change, "--step", *args.step),
            *(("--attribute", *QUICK) if args.quick else ()),
            *("--csv", args.out / f"{case.name}.csv"),
            *("--figure", args.out / f"{case.name}.png", "--json", *batch),
        )
        write_bytes_atomically(result, said)
    return case, time.monotonic() - start


def write(args: Args, cases: Sequence[Case]) -> None:
    """The tables of all cases, a figure, and what they say."""
    found = {case: json.loads((args.out / f"{case.name}.json").read_text()) for case in cases}  # fmt: skip
    rows = [row for case, result in found.items() for row in _rows(case, result)]
    tables.write_csv(args.out / "results.csv", rows)
    drawing = charts.panels(
        [_panel(found, args.method, way) for way in ("plain", *KEPT)],
        y_label=f"change of the others (rms, sd) at {args.change:g} sd",
    )
    write_bytes_atomically(args.out / "results.png", drawing.png)
    reference = Case("ddim", 50) if Case("ddim", 50) in found else cases[0]
    shown = found[reference]
    across = [row for row in rows if row["way"] in SHOWN]
    brief = ("method", "steps", "AUC", "way", "compared", "step", "collateral", "collateral vs plain", "kept vs plain", "identity", "identity of plain")  # fmt: skip
    blocks = [
        "# Edits, measured",
        f"{args.faces} faces of seed {args.seed}, {args.generator}; {shown['images']} held-out "
        f"faces edited along {len(shown['test_auc'])} attributes, judged by the shipped regressor. "
        f"All at a change of {args.change:g} standard deviations of the edited score.",
        "## What follows",
        "\n".join(f"- {line}" for line in summary(found, args.change)),
        f"## {reference.method}, {reference.steps} steps",
        "\n".join(f"- {line}" for line in shown["verdict"]),
        f"![What an edit costs]({reference.name}.png)",
        f"![Who moves with whom]({reference.name}_matrix.png)",
        f"![By attribute]({reference.name}_attributes.png)",
        tables.markdown(_by_attribute(shown["table"])),
        "## By inversion method and number of steps",
        "![Collateral by number of steps](results.png)",
        tables.markdown([{k: row[k] for k in brief} for row in across]),
        "Relative numbers: -0.2 is a fifth less than plain, on the attributes that reach the "
        "change in both. Steps are in mean lengths of the noise. All columns: "
        "[results.csv](results.csv), and each case's own files.",
    ]
    page = "\n\n".join(blocks) + "\n"
    write_bytes_atomically(args.out / "results.md", page.encode())


def summary(found: dict[Case, dict[str, Any]], change: float) -> list[str]:
    """What holds over all cases, in numbers."""
    lines = []
    for way in KEPT:
        pairs = [_way(result, way) for result in found.values()]
        known = [row for row in pairs if row and row["compared"]]
        if not known:
            lines.append(f"**{way}**: reaches a change of {change:g} sd nowhere.")
            continue
        said = []
        for name, what in (("collateral", "all others"), ("kept", "the kept ones")):
            less = sum(_sure(row, name) < 0 for row in known)
            more = sum(_sure(row, name) > 0 for row in known)
            middle = np.median([row[f"{name} vs plain"] for row in known])
            said.append(
                f"changes {what} by {100 * middle:+.0f} % (median of {len(known)} cases; "
                f"surely less in {less}, surely more in {more})"
            )
        steps = np.median([row["step vs plain"] for row in known])
        same = np.median([row["identity"] - row["identity of plain"] for row in known])
        lost = np.median([1 - row["compared"] / max(row["walked"], 1) for row in known])
        lines.append(
            f"**{way}**, against plain, {' and '.join(said)}; the length of its steps "
            f"changes by {100 * steps:+.0f} %, identity by {same:+.3f}, and "
            f"{100 * lost:.0f} % of its attributes do not get there in both."
        )
    plain = {case: _way(result, "plain") for case, result in found.items()}
    known = {case: row for case, row in plain.items() if row and row["compared"]}
    if len(known) > 1:
        best = min(known, key=lambda case: known[case]["collateral"])
        worst = max(known, key=lambda case: known[case]["collateral"])
        lines.append(
            f"Plain edits change the others least with {best.method} at {best.steps} steps "
            f"({known[best]['collateral']:.3f} sd) and most with {worst.method} at "
            f"{worst.steps} ({known[worst]['collateral']:.3f})."
        )
    random = [_way(result, "random (control)") for result in found.values()]
    most = max(abs(row["per step"]) for row in random if row)
    least = min(row["per step"] for row in plain.values() if row)
    lines.append(
        f"Control: a random step as long as the noise changes a score by {most:.2f} sd at "
        f"most (mean of the attributes), a plain one by {least:.2f} at least."
    )
    return lines


def _rows(case: Case, result: dict[str, Any]) -> list[Row]:
    auc = [a for a in result["test_auc"].values() if a is not None]
    about: Row = {
        "method": case.method,
        "steps": case.steps,
        "AUC": float(np.mean(auc)),
    }
    return [about | row for row in result["ways"]]


def _by_attribute(table: list[Row]) -> list[Row]:
    """Collateral of each way side by side, then what the plain edit is like."""
    rows: dict[str, Row] = {}
    for row in table:
        own = rows.setdefault(str(row["attribute"]), {"attribute": row["attribute"]})
        if row["way"] in SHOWN:
            own[str(row["way"])] = row["collateral"]
        if row["way"] == "plain":
            numbers = ("keep", "per sd", "identity", "psnr outside", "planted share")
            own |= {name: row[name] for name in numbers}
    names = ("attribute", *SHOWN, "keep", "per sd", "identity", "psnr outside", "planted share")  # fmt: skip
    return [{name: row.get(name) for name in names} for row in rows.values()]


def _panel(found: dict[Case, dict[str, Any]], methods: Sequence[str], way: str) -> charts.Panel:  # fmt: skip
    steps = sorted({case.steps for case in found})
    series = {}
    for method in methods:
        rows = [_way(found.get(Case(method, s)), way) for s in steps]
        y = [row["collateral"] if row else None for row in rows]
        series[method] = np.array(y, float)
    return charts.Panel(way, "steps", np.array(steps), series, log_x=len(steps) > 1)


def _way(result: dict[str, Any] | None, way: str) -> dict[str, Any] | None:
    rows = result["ways"] if result else []
    return next((row for row in rows if row["way"] == way), None)


def _sure(row: dict[str, Any], name: str) -> int:
    """-1 where the interval is below 0, 1 where above, else 0."""
    low, high = (row[f"{name} vs plain {end}"] for end in ("low", "high"))
    if low is None or high is None:
        return 0
    return int(low > 0) - int(high < 0)


def _cost(case: Case) -> float:
    factor = {"fixed-point": 3.0, "exact": 1.5}.get(case.method, 1.0)
    return -factor * case.steps


def _option(name: str, value: int | None) -> tuple[str, ...]:
    return () if value is None else (name, str(value))


def _une_jax(*args: object) -> bytes:
    """One command, in a process of its own; what it prints."""
    # Cases share the device: none may take all of its memory.
    shared = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "une_jax", *map(str, args)]
    ran = subprocess.run(command, env=shared, capture_output=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr.decode()}")
    return ran.stdout


assert set(QUICK) <= set(factors.NAMES)

if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
