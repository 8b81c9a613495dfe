"""Where the numbers come from: models, settings, versions, the zoo itself."""

import hashlib
import importlib.metadata
import json
import platform
from datetime import UTC, datetime

import jax

from une_jax.report import page
from une_jax.report.chapter import Chapter
from une_jax.report.subject import Subject
from une_jax.report.tables import Row

LIBRARIES = ("une-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "matplotlib", "pillow", "pyarrow", "safetensors")  # fmt: skip


def write(subject: Subject, *, command: str, total_rows: int) -> Chapter:
    """What a reader needs to do it again.

    Args:
        command: what was typed.
        total_rows: of the zoo, of which the subject may be a sample.
    """
    chapter = Chapter(key="provenance", title="Where this comes from")
    zoo, manifest = subject.zoo, subject.zoo.manifest
    digest = hashlib.sha256((zoo.path / "manifest.json").read_bytes()).hexdigest()
    rows = zoo.rows.num_rows
    seen = f"all {rows}" if rows == total_rows else f"{rows} of {total_rows}, drawn at random,"  # fmt: skip
    train, test = (len(zoo.split(part)) for part in ("train", "test"))
    chapter.say(
        f"Made {datetime.now(UTC):%d %B %Y, %H:%M} UTC from {seen} images of a NoiseZoo: "
        f"{train} to fit, {test} to test. Its `manifest.json` has sha256 `{digest}`."
    )
    chapter.blocks.append(page.listing(command))
    chapter.table("views", _views(subject), "The views and the weights behind them.", names={
        "view": "view", "kind": "kind", "model": "model", "shape": "shape",
        "steps": "steps", "terminal t": "terminal t", "sha256, begins": "weights' sha256",
    })  # fmt: skip
    settings = {view.name: view.settings for view in manifest.views}
    told = page.listing(json.dumps(settings, indent=1, default=str))
    chapter.blocks.append(page.details("Every setting of every view", told))
    devices = jax.devices()
    chapter.table(
        "versions",
        [
            {"library": "Python", "version": platform.python_version()},
            *({"library": n, "version": _version(n)} for n in LIBRARIES),
            {
                "library": "device",
                "version": f"{len(devices)} x {devices[0].device_kind}",
            },
        ],
        "Versions that ran.",
    )
    return chapter


def _views(subject: Subject) -> list[Row]:
    return [
        {
            "view": view.name,
            "kind": view.kind,
            "model": view.model_id,
            "shape": " x ".join(map(str, view.shape)),
            "dtype": view.dtype,
            "method": str(view.settings.get("method", "")),
            "steps": view.settings.get("steps"),
            "terminal t": view.settings.get("terminal_t"),
            "sha256, begins": view.weights_sha256[:12],
            "weights sha256": view.weights_sha256,
        }
        for view in subject.zoo.manifest.views
    ]


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
