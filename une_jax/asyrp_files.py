"""Asyrp's functions as files: weights in safetensors, what they belong to in the header.

f means nothing in another model's bottleneck, nor in a walk of other timesteps without
``asyrp.weights``; so a file knows both.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from une_jax.asyrp import Params
from une_jax.directions import require_same
from une_jax.errors import UneError
from une_jax.zoo import View
from une_jax.zoo.atomic import write_bytes_atomically

FORMAT = "une-jax asyrp 1"


class Stored(NamedTuple):
    """What :func:`load` gives."""

    params: Params
    about: dict[str, Any]


def save(path: Path, params: Params, about: Mapping[str, Any]) -> None:
    """Writes f and ``about``, its settings as JSON has them; one that was there is
    replaced.

    Raises:
        UneError: a weight is not finite.

    An example is at :func:`load`.
    """
    arrays = {name: np.asarray(w, np.float32) for name, w in params.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UneError(f"{path}: {name} is not finite; it was not written")
    header = {"format": FORMAT, "about": json.dumps(dict(about), sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, to_safetensors(arrays, header))


def load(path: Path) -> Stored:
    """Reads what :func:`save` wrote.

    Raises:
        UneError: there is no such file, or it is none of ours, or damaged.

    >>> import jax, tempfile
    >>> from une_jax import asyrp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "smile.safetensors")
    ...     save(file, asyrp.init(jax.random.key(0), 8), {"target": "a smile"})
    ...     load(file).about
    {'target': 'a smile'}
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UneError(f"{path} is no file of Asyrp's; train one with scripts/train_asyrp.py")  # fmt: skip
            about = json.loads(header["about"])
            arrays = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}
        return Stored(arrays, dict(about))
    except FileNotFoundError as error:
        raise UneError(f"there is no file {path}") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UneError):
            raise
        raise UneError(f"{path} is no file of Asyrp's: {error}") from error


def holds(path: Path) -> bool:
    """Whether a file is one of :func:`save`'s, by its header; False where there is none.

    >>> holds(Path("nowhere.safetensors"))
    False
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def view_of(stored: Stored) -> View:
    """The generator's view of noise that f learnt in.

    Raises:
        UneError: the file does not say it.
    """
    if "view" not in stored.about or "timesteps" not in stored.about:
        raise UneError("this function's file does not say of which model and timesteps it is: train it again")  # fmt: skip
    fields = stored.about["view"]
    return View(**fields | {"shape": tuple(fields["shape"])})


def require(
    stored: Stored,
    view: View,
    timesteps: Int[np.ndarray | Array, " _"] | Sequence[int],
) -> None:
    """Refuses to edit with another model's f, or in a walk of other timesteps.

    Args:
        view: the generator's, of noise.
        timesteps: of each step, in the order of sampling.

    Raises:
        UneError: it says what differs, or that the file does not say what it is of.

    >>> noise = View(
    ...     name="sd", kind="generator", model_id="some/sd", weights_sha256="0" * 64,
    ...     config={}, shape=(4, 8, 8), dtype="float32", settings={"prompt": ""},
    ... )
    >>> import dataclasses
    >>> about = {"view": dataclasses.asdict(noise), "timesteps": [901, 401]}
    >>> require(Stored({}, about), noise, [901, 401])
    >>> require(Stored({}, about), noise, [901, 301])
    Traceback (most recent call last):
    une_jax.errors.UneError: this function learnt at timestep 401 and the sampler has 301
    """
    learnt = view_of(stored)
    own, theirs = stored.about["timesteps"], [int(t) for t in timesteps]
    # By the count first: the view's settings would say it less plainly.
    if len(own) != len(theirs):
        raise UneError(
            f"this function learnt in {len(own)} steps and the sampler has "
            f"{len(theirs)}: give it as many, or weigh it with asyrp.weights"
        )
    require_same("this function is", learnt, view, "does")
    for ours, other in zip(own, theirs, strict=True):
        if ours != other:
            raise UneError(f"this function learnt at timestep {ours} and the sampler has {other}")  # fmt: skip
