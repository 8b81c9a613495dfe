"""Checkpoints that a test lays out, loads and expects to be refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import TRANSFORMERS, copy, tensors
from safetensors.numpy import save_file

from ports import clip
from ports.checkpoint import CheckpointError

INDEX = f"{TRANSFORMERS}.index.json"


def load(path, **options):
    return clip.load(str(path), **options)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def refused(path, **options) -> str:
    """The one-line message of a checkpoint that cannot be used."""
    with pytest.raises(CheckpointError) as e:
        load(path, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def changed(value: float) -> dict[str, np.ndarray]:
    """The text tower with every weight moved."""
    return {k: v + np.float16(value) for k, v in tensors("clip_text").items()}


def sharded(to: Path, case: str = "clip_text", *, tag: str = "") -> dict[str, str]:
    """The golden in two shards; the index's weight map."""
    stem = "model" if case.startswith("clip") else "diffusion_pytorch_model"
    copy(case, to)
    (to / f"{stem}.safetensors").unlink()
    names = sorted(tensors(case))
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-0000{i}-of-00002{tag}.safetensors"
        save_file({k: tensors(case)[k] for k in part}, to / shard)
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (to / f"{stem}.safetensors.index{tag}.json").write_text(json.dumps(index))
    return weight_map
