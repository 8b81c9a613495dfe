"""``build --dry-run``: how much there is to do, and how long it would take here."""

import concurrent.futures as cf
from typing import TYPE_CHECKING, Any

import numpy as np

from une_jax.zoo.manifest import DTYPES

if TYPE_CHECKING:
    from une_jax.cli.job import Job

SAMPLE = 16  # images that are read to see how long reading takes


def plan(job: "Job") -> dict[str, Any]:
    """Rows, bytes, FLOPs and seconds of a build; nothing is written.

    One call of each network is compiled and timed on this device at the build's own
    batch size, and as many images as ``SAMPLE`` are read: ``seconds`` is the larger of
    computing and reading, which go on at the same time.
    """
    from une_jax.cli.collection import reader_count
    from une_jax.cli.reading import read

    manifest = job.manifest
    n = manifest.row_count
    sizes = {
        view.name: int(np.prod(view.shape)) * DTYPES[view.dtype].itemsize
        for view in manifest.views
    }
    models = {
        model.name: {
            "flops_per_image": model.flops_per_image(),
            "seconds_per_image": model.seconds_per_image(),
        }
        for model in job.models
    }
    rows = range(min(n, SAMPLE))
    with cf.ThreadPoolExecutor(reader_count()) as pool:
        reads = list(pool.map(lambda row: read(job.collection, job.models, row), rows))
    reading = sum(each.seconds for each in reads) / len(reads) / reader_count()
    computing = sum(sum(m["seconds_per_image"].values()) for m in models.values())
    flops = sum(sum(m["flops_per_image"].values()) for m in models.values())
    return {
        "dry_run": True,
        "rows": n,
        "shards": manifest.shard_count,
        "bytes_per_row": sizes,
        "bytes": n * sum(sizes.values()),
        "models": models,
        "reading_seconds_per_image": reading,
        "flops": n * flops,
        "seconds": n * max(reading, computing),
    }


def say(result: dict[str, Any]) -> str:
    """A plan in words."""
    n = result["rows"]
    views = ", ".join(f"{k} {size(b)}" for k, b in result["bytes_per_row"].items())
    lines = [
        f"{n} rows in {result['shards']} shard(s), {size(result['bytes'])} "
        f"(a row: {views})",
        f"{amount(result['flops'])}FLOP, about {duration(result['seconds'])} on this "
        "device; for one image:",
    ]
    for name, model in result["models"].items():
        parts = ", ".join(
            f"{part} {seconds:.3g} s ({amount(model['flops_per_image'][part])}FLOP)"
            for part, seconds in model["seconds_per_image"].items()
        )
        lines.append(f"  {name}: {parts}")
    reading = result["reading_seconds_per_image"]
    lines.append(f"  reading, beside that: {reading:.3g} s")
    return "\n".join([*lines, "nothing was written"])


def size(count: int | float) -> str:
    """Bytes in decimal units.

    >>> size(16384)
    '16.4 kB'
    """
    return amount(count) + "B"


def amount(count: int | float) -> str:
    """A number with a decimal prefix.

    >>> amount(4.1e13)
    '41 T'
    """
    for unit in ("", "k", "M", "G", "T", "P"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} E"


def duration(seconds: int | float) -> str:
    """Seconds, minutes, hours or days.

    >>> duration(7200)
    '2 h'
    """
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
