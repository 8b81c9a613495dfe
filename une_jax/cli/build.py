"""``une-jax build``: a folder of images -> a NoiseZoo of noise and embeddings."""

import concurrent.futures as cf
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from une_jax import attributes, images, zoo
from une_jax.cli import names, retry
from une_jax.cli.job import Job
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.zoo.manifest import DTYPES

if TYPE_CHECKING:
    from une_jax.cli.encoder import Encoder
    from une_jax.cli.generator import Generator


@dataclass(frozen=True, kw_only=True)
class Build:
    """Invert and embed a folder of images into a NoiseZoo; goes on where it stopped."""

    images: Path
    """folder of images; a row's key is its path below this folder"""
    out: Path
    """the NoiseZoo's folder, new or to be continued"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """NAME=PATH_OR_ID or a built-in name (mini-sd15, sd15), one or more"""
    encoder: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """NAME=PATH_OR_ID or a built-in name (mini-clip-p8, clip-l14, dinov3-l16)"""
    preprocess: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=RECIPE, where an encoder is to see other pixels than its own files say
    (dinov3-paper: from -1 to 1, as the paper's code feeds DINOv3)"""
    attributes: Annotated[Path | None, OWN_DEFAULT] = None
    """list_attr_celeba.txt, or a CSV whose first column is the file"""
    steps: int = 50
    """DDIM steps"""
    eval_at: Literal["source", "target"] = "source"
    """inversion evaluates the model at its own timestep, or at the next (diffusers)"""
    method: Literal["ddim", "fixed-point"] = "ddim"
    """fixed-point repeats each step until sampling would undo it: up to ten times
    the model calls, and a far smaller round trip error"""
    prompt: str = ""
    """the prompt that inversion is conditioned on; no guidance"""
    size: Annotated[int | None, OWN_DEFAULT] = None
    """edge of the square images in pixels (default: the generator's own)"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the UNet and the encoders; the VAE and the schedule are always float32"""
    batch_size: Annotated[int | None, OWN_DEFAULT] = None
    """images a call over all devices (default: by latent size and device)"""
    shard_rows: int = 256
    """rows a shard"""
    limit: Annotated[int | None, OWN_DEFAULT] = None
    """use only the first so many images"""
    controls: bool = False
    """also store the clean latents and their forward-noised twins, for probe's controls"""
    retry: Annotated[Literal["failed"] | None, OWN_DEFAULT] = None
    """compute the rows that failed earlier once more"""
    dry_run: bool = False
    """say what would be done, and do nothing"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        for option in ("limit", "batch_size", "size"):
            value = getattr(self, option)
            if value is not None and value < 1:
                name = option.replace("_", "-")
                raise UneError(f"--{name} {value}: use 1 or more")
        keys = images.list_images(self.images)
        keys = keys[: self.limit]
        names_, values = self._attributes(keys)
        models = self._load(rows=min(self.shard_rows, len(keys)))
        manifest = zoo.Manifest(
            views=tuple(view for model in models for view in model.views),
            source=zoo.describe_source(self.images.resolve().name, keys, self.size),
            row_count=len(keys),
            shard_rows=min(self.shard_rows, len(keys)),
            attribute_names=names_,
        )
        if self.dry_run:
            return self._plan(manifest)
        job = Job(self.images, keys, names_, values, models)
        writer = zoo.create(self.out, manifest)
        self._fill(writer, job)
        return summary(self.out)

    def _attributes(self, keys: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
        if self.attributes is None:
            return (), np.zeros((len(keys), 0), bool)
        table = attributes.read(self.attributes)
        extra = "error" if self.limit is None else "ignore"
        return table.names, np.asarray(attributes.align(table, keys, extra=extra))

    def _load(self, rows: int) -> list["Generator | Encoder"]:
        if not self.generator + self.encoder:
            raise UneError("nothing to do: give --generator or --encoder")
        from une_jax.cli.encoder import load_encoder
        from une_jax.cli.generator import Settings, load_generator

        settings = Settings(
            steps=self.steps,
            eval_at=self.eval_at,
            method=self.method,
            prompt=self.prompt,
            size=self.size,
            dtype=self.dtype,
            controls=self.controls,
        )
        recipes = self._recipes()
        return [
            load_generator(
                names.resolve(spec), settings, batch_size=self.batch_size, rows=rows
            )
            for spec in self.generator
        ] + [
            load_encoder(
                model,
                recipe=recipes.get(model.name),
                dtype=self.dtype,
                batch_size=self.batch_size,
                rows=rows,
            )
            for model in map(names.resolve, self.encoder)
        ]

    def _recipes(self) -> dict[str, str]:
        """``--preprocess VIEW=RECIPE ...`` -> {view: recipe}."""
        views = [names.resolve(spec).name for spec in self.encoder]
        pairs = {}
        for spec in self.preprocess:
            view, _, recipe = spec.partition("=")
            pairs[view] = recipe
            if view not in views or not recipe:
                raise UneError(
                    f"--preprocess {view}={recipe}: write VIEW=RECIPE with an encoder's "
                    f"view ({', '.join(views) or 'there is none'})"
                )
        return pairs

    def _plan(self, manifest: zoo.Manifest) -> dict[str, Any]:
        sizes = {
            view.name: int(np.prod(view.shape)) * DTYPES[view.dtype].itemsize
            for view in manifest.views
        }
        calls = self.steps - (self.eval_at == "source")  # N timesteps, N - 1 ways
        if self.method == "fixed-point":
            from une_jax.cli.programs import REFINE

            calls *= REFINE["max_calls"]
        return {
            "dry_run": True,
            "rows": manifest.row_count,
            "shards": manifest.shard_count,
            "bytes_per_row": sizes,
            "bytes": manifest.row_count * sum(sizes.values()),
            "unet_calls": manifest.row_count * calls * len(self.generator),
        }

    def _fill(self, writer: zoo.Writer, job: Job) -> None:
        pending = writer.pending()
        redo = retry.failed_rows(self.out) if self.retry == "failed" else {}
        todo = sorted({*pending, *redo})
        rows = sum(len(redo.get(i, writer.rows_of(i))) for i in todo)
        total = writer.manifest.row_count
        done = total - sum(len(writer.rows_of(i)) for i in pending)
        if done and pending:
            print(f"{self.out}: {done} of {total} rows are there", file=sys.stderr)
        with (
            cf.ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2)) as pool,
            Progress(rows, "inverting" if self.generator else "embedding") as progress,
        ):
            wanted = [list(redo.get(i, writer.rows_of(i))) for i in todo]
            ahead = job.start_reading(pool, wanted[0]) if todo else []
            for n, (shard, part) in enumerate(zip(todo, wanted, strict=True)):
                reading = ahead  # the next shard is read while this one is computed
                ahead = (
                    job.start_reading(pool, wanted[n + 1]) if n + 1 < len(todo) else []
                )
                arrays, table = job.compute(writer.manifest, part, reading, progress)
                if shard in redo:
                    whole = retry.merge(self.out, shard, part, arrays, table)
                    writer.commit(shard, *whole, replace=True)
                else:
                    writer.commit(shard, arrays, table)
                progress.shard(f"shard {shard} written")

    def text(self, result: dict[str, Any]) -> str:
        if result.get("dry_run"):
            views = result["bytes_per_row"].items()
            per_row = ", ".join(f"{name} {_size(b)}" for name, b in views)
            most = "at most " if self.method == "fixed-point" else ""
            return (
                f"{result['rows']} rows in {result['shards']} shard(s), "
                f"{_size(result['bytes'])} (a row: {per_row}), "
                f"{most}{result['unet_calls']} UNet calls; nothing was written"
            )
        lines = [f"{self.out}: {result['ok']} rows ok, {result['failed']} failed"]
        lines += [f"  failed: {key}: {why}" for key, why in result["failures"][:10]]
        if len(result["failures"]) > 10:
            lines.append(f"  and {len(result['failures']) - 10} more")
        return "\n".join(lines)


def _size(count: int | float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def summary(path: Path) -> dict[str, Any]:
    """How many rows a zoo has, and which of them failed."""
    rows = zoo.open(path).all_rows
    failures = [
        [key, reason]
        for key, status, reason in zip(
            *(rows.column(c).to_pylist() for c in ("key", "status", "reason")),
            strict=True,
        )
        if status == "failed"
    ]
    ok = rows.num_rows - len(failures)
    return {"zoo": str(path), "ok": ok, "failed": len(failures), "failures": failures}
