"""What the paper says of its roads, and what these images say of theirs.

Statements of Badrinath et al., "All Roads Lead to Rome?", on CelebA at 64 pixels. Each is
put as a comparison of numbers that is true or false here too; where the numbers are
missing, it stays open.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from une_jax.report.roads.places import BASELINES, ITSELF, RANDOM
from une_jax.report.tables import Row

GENDER = ("Male", "Heavy_Makeup", "Wearing_Lipstick", "No_Beard")
CLOSE = 0.05  # of a random encoder's error: "barely better"
CLEAR = 0.1  # R²: so much is there, and so much more
GAIN = 2.0  # percent of accuracy that is more than noise


class Claim(NamedTuple):
    """A published statement, and the numbers here."""

    said: str
    here: str
    agrees: bool | None  # None: not known


Families = Mapping[str, str]  # of each view, as ``Ways.kind`` names it


def check(pairs: Sequence[Row], attributes: Sequence[Row], families: Families) -> list[Claim]:  # fmt: skip
    """Every statement, with the rows of ``pairs.stitch`` and of its attributes."""
    tests: Sequence[Callable[[], Claim]] = (
        lambda: _best_encoders(pairs, families),
        lambda: _barely(pairs, families),
        lambda: _gender(attributes, families),
        lambda: _geometry(pairs, families),
        lambda: _always_a_face(pairs, families),
        lambda: _gains(pairs, families),
    )
    return [test() for test in tests]


def table(claims: Sequence[Claim]) -> list[Row]:
    """For a page."""
    words = {True: "agrees", False: "does not agree", None: "open"}
    return [{"the paper": c.said, "here": c.here, "": words[c.agrees]} for c in claims]


def _roads(pairs: Sequence[Row], measure: str) -> list[Row]:
    """Pairs of two different models of which the measure is known."""
    return [
        r
        for r in pairs
        if r["source"] not in BASELINES
        and not r.get("same model")
        and (value := r.get(measure)) is not None
        and value == value
    ]


def _against_random(pairs: Sequence[Row]) -> dict[tuple[str, str], float]:
    """RMSE of each road as a part of the random encoder's, on the same target."""
    random = {(r["target"], r["images"]): r["rmse"] for r in pairs if r["source"] == RANDOM and r.get("rmse") is not None}  # fmt: skip
    return {
        (str(r["source"]), str(r["target"])): float(r["rmse"]) / float(beside)  # pyright: ignore
        for r in _roads(pairs, "rmse")
        if (beside := random.get((r["target"], r["images"])))
    }


def _by_family(pairs: Sequence[Row], families: Families) -> dict[str, float]:
    """The mean over targets of that part, by the source's family."""
    found: dict[str, list[float]] = {}
    for (source, _), part in _against_random(pairs).items():
        found.setdefault(families.get(source, "encoder"), []).append(part)
    return {family: float(np.mean(parts)) for family, parts in found.items()}


def _best_encoders(pairs: Sequence[Row], families: Families) -> Claim:
    said = "The flow's and the VQVAE's encoders stitch best to every decoder."
    mean = _by_family(pairs, families)
    own = {k: v for k, v in mean.items() if k != "encoder"}
    if not {"flow", "VQVAE"} <= own.keys() or len(own) < 3:
        return Claim(said, "no pictures of both and a third family", None)
    order = sorted(own, key=own.__getitem__)
    here = "RMSE as a part of a random encoder's: " + _listed(own, order)
    return Claim(said, here, set(order[:2]) == {"flow", "VQVAE"})


def _barely(pairs: Sequence[Row], families: Families) -> Claim:
    said = "The VAE's and the diffusion model's encoders barely beat a random one."
    mean = _by_family(pairs, families)
    asked = [k for k in ("VAE", "pixel diffusion") if k in mean]
    if len(asked) < 2:
        return Claim(said, "no pictures of both", None)
    here = "RMSE as a part of a random encoder's: " + _listed(mean, asked)
    return Claim(said, here, all(mean[k] > 1 - CLOSE for k in asked))


def _gender(attributes: Sequence[Row], families: Families) -> Claim:
    said = "Gender survives best, even from diffusion."
    rows = _roads(attributes, "kappa")
    noise = ("pixel diffusion", "latent diffusion")
    parts = {
        "over all roads": rows,
        "from noise": [r for r in rows if families.get(str(r["source"])) in noise],
    }
    told, best = [], []
    for words, some in parts.items():
        mean = _mean_by(some, "attribute", "kappa")
        if mean.keys() & set(GENDER):
            order = sorted(mean, key=mean.__getitem__, reverse=True)
            told.append(f"kappa {words}: " + _listed(mean, order[:4]))
            best.append(order[0] in GENDER)
    if len(best) < len(parts):
        told.append("no attribute of gender has been probed on all of these roads")
        return Claim(said, "; ".join(told), None)
    return Claim(said, "; ".join(told), all(best))


def _geometry(pairs: Sequence[Row], families: Families) -> Claim:
    said = "Stitched into diffusion, a face keeps its geometry, but not its colour."
    rows = [r for r in _roads(pairs, "luma R²") if families.get(str(r["target"])) == "pixel diffusion"]  # fmt: skip
    if not rows:
        return Claim(said, "no pictures of pixel diffusion", None)
    luma, chroma = (float(np.mean([float(r[k] or 0) for r in rows])) for k in ("luma R²", "chroma R²"))  # fmt: skip
    here = f"R² of brightness {luma:.2f}, of colour {chroma:.2f}"
    return Claim(said, here, luma > CLEAR and luma - chroma > CLEAR)


def _always_a_face(pairs: Sequence[Row], families: Families) -> Claim:
    said = "The GAN's decoder always gives a face."
    column = next((k for r in pairs for k in r if k.startswith("KID (") and k.endswith(")")), "")  # fmt: skip
    excess: dict[str, list[float]] = {}
    own = {(r["target"], r["images"]): float(r.get(column) or 0) for r in pairs if r["source"] == ITSELF}  # fmt: skip
    for row in _roads(pairs, column):
        above = float(row[column] or 0) - own[row["target"], row["images"]]
        family = families.get(str(row["target"]), "encoder")
        excess.setdefault(family, []).append(above)
    mean = {k: float(np.mean(v)) for k, v in excess.items()}
    if "GAN" not in mean or len(mean) < 2:
        return Claim(said, "no pictures of a GAN and another decoder", None)
    order = sorted(mean, key=mean.__getitem__)
    here = f"{column} above the decoder's own images: " + _listed(mean, order, digits=3)
    return Claim(said, here, order[0] == "GAN")


def _gains(pairs: Sequence[Row], families: Families) -> Claim:
    said = "A probe can read mapped latents better than its own model's."
    rows = [
        r
        for r in _roads(pairs, "accuracy change, %")
        if families.get(str(r["source"])) != "encoder"
    ]
    if not rows:
        return Claim(said, "no attributes have been probed", None)
    change = {f"{r['source']} to {r['target']}": float(r["accuracy change, %"] or 0) for r in rows}  # fmt: skip
    best = max(change, key=change.__getitem__)
    count = sum(value > GAIN for value in change.values())
    here = (
        f"accuracy rises by more than {GAIN:g} % on {count} of {len(change)} roads "
        f"between generators, by {change[best]:+.1f} % at most ({best})"
    )
    return Claim(said, here, count > 0)


def _mean_by(rows: Sequence[Row], key: str, column: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(str(row[key]), []).append(float(row[column] or 0))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _listed(values: Mapping[str, float], order: Sequence[str], digits: int = 2) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {values[name]:.{digits}f}" for name in order)  # fmt: skip
