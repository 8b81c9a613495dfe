"""``une-jax build``: a collection of images -> a NoiseZoo of noise and embeddings."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from une_jax import zoo
from une_jax.cli import cluster as cluster_
from une_jax.cli import names, retry
from une_jax.cli.cluster import Cluster
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.plan import plan, say
from une_jax.cli.progress import Progress
from une_jax.errors import UneError

if TYPE_CHECKING:
    from une_jax.cli.batches import Maker
    from une_jax.cli.job import Job

# Shards of small collections are small, so that little is lost; of large ones larger,
# so that the manifest stays light.
SHARD_ROWS, MANY_ROWS, LARGE_SHARD_ROWS = 256, 100_000, 1024
# A fold rewrites the manifest: at most this often as its shards grow by one part in...
FOLD_PART = 64


@dataclass(frozen=True, kw_only=True)
class Build:
    """Invert and embed a collection of images into a NoiseZoo; goes on where it
    stopped."""

    images: Path
    """folder of images (a row's key is its path below it), CelebA's folder, class
    folders, Parquet or Arrow files of a Hugging Face dataset, or webdataset tars"""
    out: Path
    """the NoiseZoo's folder, new or to be continued"""
    source: Literal[
        "auto", "folder", "celeba", "classes", "parquet", "arrow", "webdataset"
    ] = "auto"
    """what lies at --images"""
    partition: Annotated[Literal["train", "validation", "test"] | None, OWN_DEFAULT] = (
        None
    )
    """use only this part of a source that has parts"""
    limit: Annotated[int | None, OWN_DEFAULT] = None
    """use only the first so many images"""
    skip_duplicates: bool = False
    """look for files of the very same bytes first, and compute only the first of each"""
    attributes: Annotated[Path | None, OWN_DEFAULT] = None
    """list_attr_celeba.txt, or a CSV or Parquet file whose first column is the key"""
    generator: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """NAME=PATH_OR_ID or a built-in name (mini-sd15, sd15), one or more"""
    encoder: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """NAME=PATH_OR_ID or a built-in name (mini-clip-p8, clip-l14, dinov3-l16)"""
    preprocess: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=RECIPE, where an encoder is to see other pixels than its own files say
    (dinov3-paper: from -1 to 1, as the paper's code feeds DINOv3)"""
    steps: int = 50
    """DDIM steps"""
    eval_at: Literal["source", "target"] = "source"
    """inversion evaluates the model at its own timestep, or at the next (diffusers)"""
    method: Literal["ddim", "fixed-point", "exact", "dpm-encoder"] = "ddim"
    """fixed-point repeats each step until sampling would undo it (up to ten times the
    model calls); exact is BDIA, a pair of samples that gives the image back to rounding;
    dpm-encoder stores the whole noise of a stochastic sampler"""
    eta: float = 0.1
    """dpm-encoder: the sampler's noise, above 0 up to 1"""
    seed: int = 0
    """dpm-encoder: of that noise; VAE: of the posterior's draw; GAN: of the first image"""
    prompt: str = ""
    """the prompt that inversion is conditioned on"""
    prompts: Annotated[Path | None, OWN_DEFAULT] = None
    """a CSV file of key,prompt: a prompt for each image"""
    guidance: float = 1.0
    """scale of classifier-free guidance, 1 for none (consistency models embed it)"""
    negative: str = ""
    """the prompt that guidance leads away from"""
    round_trip: Literal["none", "latent", "pixels"] = "latent"
    """what is measured by sampling the image back from its noise, which takes as long
    again: nothing, the latents' error, or the pixels' PSNR too"""
    controls: bool = False
    """also store the clean latents and their forward-noised twins, for probe's controls"""
    size: Annotated[int | None, OWN_DEFAULT] = None
    """edge of the square images in pixels (default: the generator's own)"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the UNet and the encoders; the VAE and the schedule are always float32"""
    batch_size: Annotated[int | None, OWN_DEFAULT] = None
    """images a call over all devices (default: by latent size and device)"""
    shard_rows: Annotated[int | None, OWN_DEFAULT] = None
    """rows a shard (default: 256; 1024 where there are more than 100,000 rows)"""
    retry: Annotated[Literal["failed"] | None, OWN_DEFAULT] = None
    """compute the rows that failed earlier once more"""
    dry_run: bool = False
    """say what would be done, how much it is and how long it would take here"""
    cluster: Annotated[Cluster, tyro.conf.OmitArgPrefixes] = field(
        default_factory=Cluster
    )
    json: Json = False

    def run(self) -> dict[str, Any]:
        for option in ("limit", "batch_size", "size", "shard_rows"):
            value = getattr(self, option)
            if value is not None and value < 1:
                name = option.replace("_", "-")
                raise UneError(f"--{name} {value}: use 1 or more")
        if self.prompts is not None and self.prompt:
            raise UneError("--prompt and --prompts: give one of the two")
        self.cluster.check()
        engine = self.cluster.engine
        if self.dry_run:
            return plan(self.prepare())
        if engine == "ray":
            from une_jax.cli import on_ray

            on_ray.run(self)
            zoo.Writer(self.out).fold()
            return summary(self.out)
        if engine == "distributed":
            cluster_.join(self.cluster)
        job = self.prepare()
        writer = zoo.create(self.out, job.manifest)
        self._fill(writer, job)
        return summary(self.out)

    def prepare(self) -> "Job":
        """The rows and the models, loaded, and the zoo that they will make."""
        from une_jax.cli.collection import collect
        from une_jax.cli.job import Job

        collection = collect(
            self.images,
            kind=self.source,
            partition=self.partition,
            labels=self.attributes,
            prompts=self.prompts,
            limit=self.limit,
            skip_twins=self.skip_duplicates,
        )
        n = len(collection.source.keys)
        usual = SHARD_ROWS if n <= MANY_ROWS else LARGE_SHARD_ROWS
        shard_rows = min(self.shard_rows or usual, n)
        models = self._load(rows=shard_rows)
        manifest = zoo.Manifest(
            views=tuple(view for model in models for view in model.views),
            source=collection.describe(self.size),
            row_count=n,
            shard_rows=shard_rows,
            attribute_names=collection.attribute_names,
        )
        return Job(manifest, collection, models)

    def _load(self, rows: int) -> Sequence["Maker"]:
        if not self.generator + self.encoder:
            raise UneError("nothing to do: give --generator or --encoder")
        from une_jax.cli.encoder import load_encoder
        from une_jax.cli.family import family_of, load_family
        from une_jax.cli.generator import Settings, load_generator

        settings = Settings(
            steps=self.steps,
            eval_at=self.eval_at,
            method=self.method,
            prompt=self.prompt if self.prompts is None else None,
            guidance=self.guidance,
            negative=self.negative,
            eta=self.eta,
            seed=self.seed,
            round_trip=self.round_trip,
            size=self.size,
            dtype=self.dtype,
            controls=self.controls,
        )
        recipes = self._recipes()

        def load(model: names.Model) -> "Maker":
            loader = load_generator if family_of(model) is None else load_family
            return loader(model, settings, batch_size=self.batch_size, rows=rows)

        return [load(names.resolve(spec)) for spec in self.generator] + [
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

    def redo(self) -> dict[int, list[int]]:
        """Committed shards, and those of their rows that are to be computed anew."""
        return retry.failed_rows(self.out) if self.retry == "failed" else {}

    def todo(self, writer: zoo.Writer) -> list[int]:
        """The shards that are not there, or hold rows to be computed anew."""
        return sorted({*writer.pending(), *self.redo()})

    def _fill(self, writer: zoo.Writer, job: "Job") -> None:
        from une_jax.cli.worker import Worker

        redo, todo = self.redo(), self.todo(writer)
        manifest = writer.manifest
        done = sum(shard.rows for shard in manifest.shards)
        if done and todo:
            print(f"{self.out}: {done} of {manifest.row_count} rows are there", file=sys.stderr)  # fmt: skip
        distributed = self.cluster.engine == "distributed"
        if distributed:
            todo = cluster_.agree(todo, manifest.shard_count)
        place, count = self.cluster.share()
        todo = [shard for shard in todo if shard % count == place]
        alone = count == 1 and not distributed
        rows = sum(len(redo.get(i, manifest.rows_of(i))) for i in todo)
        what = "inverting" if self.generator else "embedding"
        try:
            with (
                Progress(rows, what) as progress,
                Worker(writer, job, progress, redo) as worker,
            ):
                folded = len(manifest.shards)
                for n, shard in enumerate(todo):
                    worker.shard(shard, then=todo[n + 1] if n + 1 < len(todo) else None)
                    since = n + len(manifest.shards) - folded
                    if alone and since * FOLD_PART >= max(1, folded):
                        writer.fold()
                        folded += since
                worker.finish()
        finally:
            if alone:
                writer.fold()
        if distributed:
            cluster_.meet("built")
            if cluster_.is_first():
                writer.fold()
            cluster_.meet("folded")

    def text(self, result: dict[str, Any]) -> str:
        if result.get("dry_run"):
            return say(result)
        lines = [f"{self.out}: {result['ok']} rows ok, {result['failed']} failed"]
        if result["skipped"]:
            lines[0] += f", {result['skipped']} skipped"
        if result["missing"]:
            lines[0] += f", {result['missing']} still to come"
        lines += [f"  failed: {key}: {why}" for key, why in result["failures"][:10]]
        if len(result["failures"]) > 10:
            lines.append(f"  and {len(result['failures']) - 10} more")
        if result["duplicates"]:
            lines.append(
                f"  {result['duplicates']} images are byte for byte another's "
                "(--skip-duplicates leaves them out)"
            )
        return "\n".join(lines)


def summary(path: Path) -> dict[str, Any]:
    """What became of a zoo's rows: counts, the failed ones' reasons, duplicates.

    ``duplicates`` are computed rows whose image file is another row's, to the byte.
    """
    opened = zoo.open(path)
    shards = opened.manifest.shards
    counts = {
        status: sum(getattr(shard, status) for shard in shards)
        for status in ("ok", "failed", "skipped")
    }
    failures, digests = [], []
    for shard in shards:
        rows = opened.shard_rows(shard.index)
        keys, states, reasons, hexes = (
            rows.column(name).to_pylist()
            for name in ("key", "status", "reason", "sha256")
        )
        states = np.array(states)
        failures += [[keys[i], reasons[i]] for i in np.flatnonzero(states == "failed")]
        known = "".join(hexes[i] for i in np.flatnonzero(states != "skipped"))
        digests.append(np.frombuffer(bytes.fromhex(known), "V32"))
    files = np.concatenate([np.empty(0, "V32"), *digests])
    return {
        "zoo": str(path),
        **counts,
        "missing": opened.manifest.row_count - sum(counts.values()),
        "failures": failures,
        "duplicates": len(files) - len(np.unique(files)),
    }
