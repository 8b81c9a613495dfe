"""A zoo of one shard, whose latents and labels a test has planted."""

import dataclasses

import pyarrow as pa

from une_jax import zoo


def generator(*shape, **settings):
    """Of view "sd"; NCHW latents."""
    return _view("sd", "generator", shape, "1" * 64, settings)


def encoder(width):
    """Of view "clip"."""
    return _view("clip", "encoder", (width,), "2" * 64, {})


def latent(name, *shape, family="VAE"):
    """Of a generative model of another family."""
    view = _view(name, "latent", shape, "3" * 64, {"suffix": ""})
    return dataclasses.replace(view, config={"family": family, "size": 16})


def write(folder, views, arrays, labels, *, keys=None, sha256s=None, prompts=None, size=64):  # fmt: skip
    """``labels`` by name, one bool an image; all images are ok, and nothing of their
    inversion was measured."""
    n = len(next(iter(arrays.values())))
    keys = keys or [f"{i:04d}.jpg" for i in range(n)]
    manifest = zoo.Manifest(
        views=views,
        source=zoo.describe_source("planted", keys, size, prompts=prompts),
        row_count=n,
        shard_rows=n,
        attribute_names=tuple(labels),
    )
    table = {
        "key": keys,
        "sha256": sha256s or ["0" * 64] * n,
        "status": ["ok"] * n,
        "reason": [""] * n,
        "split": zoo.paper_split(n),
        **labels,
        **({"prompt": prompts} if prompts else {}),
        **{name: pa.nulls(n, pa.float32()) for name in manifest.measures},
    }
    writer = zoo.create(folder, manifest)
    writer.commit(0, arrays, pa.table(table))
    writer.fold()
    return zoo.open(folder)


def _view(name, kind, shape, sha256, settings):
    return zoo.View(
        name=name,
        kind=kind,
        model_id=f"some/{name}",
        weights_sha256=sha256,
        config={},
        shape=shape,
        dtype="float32",
        settings=settings,
    )
