"""``une-jax import``: ``noises_<model>.npy`` files, as the UNE authors release them."""

import contextlib
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import tyro

from une_jax import attributes, sources, zoo
from une_jax.cli.options import OWN_DEFAULT, Json
from une_jax.cli.progress import Progress
from une_jax.errors import UneError
from une_jax.interop import listing, noises, npy

FOLD_EVERY = 256  # shards
FILES = tyro.conf.arg(metavar="FILE ...", help_behavior_hint="(one or more)")


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a NoiseZoo of .npy files, one a view: the UNE authors' release, or others'.

    Row i of every file is of the same image. Goes on where it stopped.
    """

    files: tyro.conf.Positional[Annotated[tuple[str, ...], FILES]]
    """noises_<model>.npy, or NAME=FILE to name the view; each (images, numbers)"""
    out: Path
    """the NoiseZoo's folder, new or to be continued"""
    keys: Annotated[Path | None, OWN_DEFAULT] = None
    """which images, in the order of the rows: a text file with a key a line, a CSV whose
    first column they are, or CelebA's list_attr_celeba.txt or list_eval_partition.txt
    (default: row numbers)"""
    images: Annotated[Path | None, OWN_DEFAULT] = None
    """the images themselves, as for build, instead of --keys: CelebA's folder, ..."""
    partition: Annotated[Literal["train", "validation", "test"] | None, OWN_DEFAULT] = (
        None
    )
    """the rows are only this part of --images, or of list_eval_partition.txt"""
    attributes: Annotated[Path | None, OWN_DEFAULT] = None
    """list_attr_celeba.txt, or a CSV whose first column is the key"""
    hash_images: bool = False
    """store the sha256 of each image of --images; it reads them all"""
    shape: Annotated[tuple[str, ...], OWN_DEFAULT] = ()
    """VIEW=C,H,W where a view is a generator's noise and its name does not say so"""
    shard_rows: int = 1024
    """rows a shard"""
    json: Json = False

    def run(self) -> dict[str, Any]:
        arrays = self._arrays()
        count = next(iter(arrays.values())).shape[0]
        images = self._listing(count)
        manifest = zoo.Manifest(
            views=self._views(arrays),
            source=zoo.describe_source(
                images.name,
                images.keys,
                None,
                kind=images.kind,
                columns={n: _type(c) for n, c in images.columns.items()},
                hashed=self.hash_images,
            ),
            row_count=count,
            shard_rows=min(self.shard_rows, count),
            attribute_names=images.attribute_names,
        )
        writer = zoo.create(self.out, manifest)
        self._fill(writer, arrays, images)
        return _summary(writer) | {"notes": _notes(arrays)}

    def _arrays(self) -> dict[str, npy.Array]:
        if not self.files:
            raise UneError("nothing to import: give noises_<model>.npy files")
        arrays = {
            name: npy.open_array(path)
            for name, path in noises.name_views(self.files).items()
        }
        first, *others = arrays.values()
        for array in others:
            if array.shape[0] != first.shape[0]:
                raise UneError(
                    f"{array.path} has {array.shape[0]} rows, and {first.path} has "
                    f"{first.shape[0]}; all should be of the same images"
                )
        return arrays

    def _views(self, arrays: dict[str, npy.Array]) -> tuple[zoo.View, ...]:
        given = dict(map(noises.parse_shape, self.shape))
        unknown = sorted(set(given) - set(arrays))
        if unknown:
            raise UneError(
                f"--shape {unknown[0]}=...: the views are {', '.join(arrays)}"
            )
        shapes = {
            name: noises.shape_of(name, array.shape[1], given)
            for name, array in arrays.items()
        }
        views = []
        for name, array in arrays.items():
            size = array.shape[0] * array.shape[1] * array.dtype.itemsize / 1e9
            print(f"une-jax: hashing {array.path} ({size:.3g} GB)", file=sys.stderr)
            views.append(
                zoo.View(
                    name=name,
                    kind="generator" if len(shapes[name]) == 3 else "encoder",
                    model_id=name,
                    weights_sha256="0" * 64,  # unknown
                    config={},
                    shape=shapes[name],
                    dtype=array.stored,
                    settings={
                        "imported_from": array.path.name,
                        "file_sha256": array.sha256(),
                        "file_dtype": array.dtype.newbyteorder("=").name,
                    },
                )
            )
        return tuple(views)

    def _listing(self, count: int) -> listing.Listing:
        if self.keys is not None and self.images is not None:
            raise UneError("both --keys and --images say which images; leave one out")
        if self.hash_images and self.images is None:
            raise UneError("--hash-images: give the images, with --images")
        if self.images is not None:
            source = sources.open(self.images, partition=self.partition)
            found = listing.of_source(source)
        elif self.keys is not None:
            found = listing.of_file(self.keys, self.partition)
        elif self.partition is not None:
            raise UneError(
                f"--partition {self.partition}: of which --images or --keys?"
            )
        else:
            found = listing.numbered(count)
        if len(found.keys) != count:
            part = "" if self.partition else "; are they one --partition of them?"
            raise UneError(
                f"the files have {count} rows, and {self.images or self.keys} lists "
                f"{len(found.keys)} images{part}"
            )
        if self.attributes is not None:
            found = found.with_attributes(attributes.read(self.attributes))
        return found

    def _fill(
        self,
        writer: zoo.Writer,
        arrays: dict[str, npy.Array],
        images: listing.Listing,
    ) -> None:
        manifest, pending = writer.settings, writer.pending()
        rows = sum(len(manifest.rows_of(index)) for index in pending)
        with Progress(rows, "importing") as progress:
            for done, index in enumerate(pending, start=1):
                span = manifest.rows_of(index)
                tensors, table = self._shard(manifest, span, arrays, images)
                with contextlib.suppress(zoo.AlreadyCommitted):  # by another import
                    writer.commit(index, tensors, table)
                if done % FOLD_EVERY == 0:
                    writer.fold()
                progress.add(len(span))
                progress.shard(f"shard {index} written")
        writer.fold()

    def _shard(
        self,
        manifest: zoo.Manifest,
        span: range,
        arrays: dict[str, npy.Array],
        images: listing.Listing,
    ) -> tuple[dict[str, np.ndarray], pa.Table]:
        """The tensors and rows of a shard; a row that is not finite has failed."""
        reasons, digests = [""] * len(span), [""] * len(span)
        tensors = {}
        for view in manifest.views:
            flat = arrays[view.name].rows(span.start, span.stop)
            for i in np.flatnonzero(~np.isfinite(flat).all(1)):
                reasons[i] = reasons[i] or f"{view.name} is not finite"
            tensors[view.name] = flat.reshape(len(span), *view.shape)
        if self.hash_images and images.source is not None:
            for i, row in enumerate(span):
                try:
                    data = images.source.read(row)
                    digests[i] = hashlib.sha256(data).hexdigest()
                except UneError as error:
                    reasons[i] = reasons[i] or str(error)
        failed = np.array([reason != "" for reason in reasons])
        for value in tensors.values():
            value[failed] = 0
        part = slice(span.start, span.stop)
        columns: dict[str, Any] = {
            "key": list(images.keys[part]),
            "sha256": digests,
            "status": np.where(failed, "failed", "ok").tolist(),
            "reason": reasons,
            "split": zoo.paper_split(manifest.row_count, span).tolist(),
        }
        for a, name in enumerate(images.attribute_names):
            columns[name] = images.values[part, a]
        for name, column in images.columns.items():
            columns[name] = column[part]
        for name in manifest.measures:  # nobody measured
            columns[name] = pa.nulls(len(span), pa.float32())
        return tensors, pa.table(columns, schema=zoo.schema(manifest))

    def text(self, result: dict[str, Any]) -> str:
        lines = [f"{self.out}: {result['ok']} rows ok, {result['failed']} failed"]
        lines += [f"  failed: {key}: {why}" for key, why in result["failures"][:10]]
        if len(result["failures"]) > 10:
            lines.append(f"  and {len(result['failures']) - 10} more")
        return "\n".join([*lines, *(f"  {note}" for note in result["notes"])])


def _type(column: pa.Array) -> str:
    names = {"float": "float32"}
    return names.get(str(column.type), str(column.type))


def _notes(arrays: dict[str, npy.Array]) -> list[str]:
    return [
        f"{array.path.name}: float64, kept as float32"
        for array in arrays.values()
        if array.dtype.itemsize == 8
    ]


def _summary(writer: zoo.Writer) -> dict[str, Any]:
    opened = zoo.open(writer.path)
    failures = []
    for shard in opened.manifest.shards:
        if shard.failed:
            table = opened.shard_rows(shard.index)
            columns = (table.column(c).to_pylist() for c in ("key", "status", "reason"))
            failures += [[k, r] for k, s, r in zip(*columns, strict=True) if s != "ok"]
    return {
        "zoo": str(writer.path),
        "views": list(opened.views),
        "ok": sum(shard.ok for shard in opened.manifest.shards),
        "failed": len(failures),
        "failures": failures,
    }
