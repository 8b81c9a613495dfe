"""Edit directions as a file that can be shared, and is refused by another model.

One safetensors file: the arrays of ``Directions``, and what they belong to as JSON in
the file's header. Noise of one model means nothing to another, nor does that of one
model inverted in another number of steps; so a file knows the view it was made in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from une_jax import edits
from une_jax.attributes import resolve
from une_jax.errors import UneError
from une_jax.zoo import View, checks
from une_jax.zoo.atomic import write_bytes_atomically

FORMAT = "une-jax directions 1"
Unit = Literal["sd", "margin", "raw"]
UNITS: tuple[Unit, ...] = get_args(Unit)
_crossing = jax.jit(
    jax.vmap(
        jax.vmap(edits.crossing, (None, None, None, None, 0)),
        (0, None, None, None, None),
    )
)
_ARRAYS = ("moves", "spread", "length", "readers", "bias")
# A direction this close to another's (|cosine|) carries it along.
ENTANGLED = 0.1
# Of a view, what the numbers of its latents depend on.
IDENTITY = ("weights_sha256", "shape", "settings")


@dataclass(frozen=True, kw_only=True)
class Directions:
    """m named moves in the latents of one view, flattened as they are stored.

    Attributes:
        names: what each one changes.
        moves: of length 1.
        spread: standard deviation of the training rows along each move.
        length: that of the move as it was found, before it was brought to length 1.
        readers, bias: how much of it a latent x has is ``x @ reader + bias``: log odds
            of a probe, a score, or NaN where there is no reader.
        view: the latent space.
        zoo: sha256 of the manifest of the zoo that taught them.
        method: how they were found, with all settings, as JSON has it.

    Raises:
        UneError: the arrays and names do not fit together or hold NaN.
    """

    names: tuple[str, ...]
    moves: Float32[np.ndarray, "m d"]
    spread: Float32[np.ndarray, " m"]
    length: Float32[np.ndarray, " m"]
    readers: Float32[np.ndarray, "m d"]
    bias: Float32[np.ndarray, " m"]
    view: View
    zoo: str
    method: dict[str, Any]

    def __post_init__(self):
        checks.match(checks.SHA256, self.zoo, "zoo")
        checks.json_object(self.method, "method")
        for name in self.names:
            checks.text(name, "names")
        different = len(set(self.names)) == len(self.names)
        checks.require(different, "names", "has one twice")
        m, d = len(self.names), int(np.prod(self.view.shape))
        for field in _ARRAYS:
            shape = (m, d) if field in ("moves", "readers") else (m,)
            have = getattr(self, field).shape
            checks.require(have == shape, field, f"has shape {have}, not {shape}")
        for field in ("moves", "spread", "length"):
            finite = bool(np.isfinite(getattr(self, field)).all())
            checks.require(finite, field, "holds NaN or infinities")

    def index(self, name: str) -> int:
        """Where the direction of this name is.

        Raises:
            UneError: there is none; it offers the closest names.
        """
        return resolve(self.names, name)

    def entangled(self, name: str, most: int = 3) -> tuple[str, ...]:
        """The others whose moves are closest to this one's, up to sign: what an edit
        of it carries along."""
        m = self.index(name)
        near = np.abs(self.moves @ self.moves[m])
        near[m] = 0
        order = np.argsort(-near)[:most]
        return tuple(self.names[i] for i in order if near[i] > ENTANGLED)

    def scores(self, x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n m"]:
        """How much of each the rows have: ``x @ readers.T + bias``."""
        return np.asarray(x, np.float32) @ self.readers.T + self.bias

    def amounts(
        self,
        wanted: Mapping[str, float],
        strengths: Sequence[float] = (1.0,),
        unit: Unit = "sd",
        x: Float[np.ndarray, "n d"] | None = None,
    ) -> Float32[np.ndarray, "n s m"]:
        """How much of each move the ``strengths`` are, for each of the rows ``x``.

        Args:
            wanted: of each name to change, how many ``unit``s at strength 1. The others
                are not moved.
            strengths: times ``wanted``.
            unit: ``"sd"``: standard deviations of the training rows along the move;
                ``"raw"``: times the move as it was found, the alpha of the UNE authors'
                code; ``"margin"``: the score to end at, in units of the reader (log
                odds of a probe; 0 is the boundary), from wherever a row is; several
                are solved for together.
            x: n latents; only ``"margin"`` depends on them. Without, one row.

        Raises:
            UneError: an unknown name; a margin where there is no reader, or which the
                moves cannot reach.
        """
        at = [self.index(name) for name in wanted]
        each = np.outer(strengths, list(wanted.values())).astype(np.float32)
        n = 1 if x is None else len(x)
        if unit == "margin":
            if x is None:
                raise UneError(
                    "a margin is reached from somewhere: give the latents too"
                )
            rows = jnp.asarray(x, jnp.float32).reshape(n, -1)
            how = (jnp.asarray(v[at]) for v in (self.readers, self.bias, self.moves))
            steps = np.asarray(_crossing(rows, *how, jnp.asarray(each)))
            if not np.isfinite(steps).all():
                names = " and ".join(wanted)
                raise UneError(
                    f"{names}: the score cannot be brought to a margin along this move; "
                    "give the strength in sd"
                )
        else:
            scale = self.spread[at] if unit == "sd" else self.length[at]
            steps = np.broadcast_to(each * scale, (n, *each.shape))
        found = np.zeros((n, len(each), len(self.names)), np.float32)
        found[..., at] = steps
        return found

    def require(self, view: View) -> None:
        """Refuses another model's latents, or those made in another way.

        Raises:
            UneError: it says what differs.
        """
        require_same("these directions are", self.view, view)


def require_same(said: str, own: View, view: View, fits: str = "do") -> None:
    """Refuses ``view`` where its numbers are not those of ``own``; ``said`` begins what
    is told of the file, "these directions are".

    Raises:
        UneError: it says what differs.
    """
    for field in IDENTITY:
        ours, theirs = (json.loads(json.dumps(getattr(v, field))) for v in (own, view))
        if ours != theirs:
            what = _difference(field, ours, theirs)
            raise UneError(f"{said} of {own.name} ({own.model_id}) and {fits} not fit {view.name}: {what}")  # fmt: skip


def save(path: Path, directions: Directions) -> None:
    """Writes the file; one that was there is replaced."""
    about = {
        "names": list(directions.names),
        "view": asdict(directions.view),
        "zoo": directions.zoo,
        "method": directions.method,
    }
    arrays = {k: np.asarray(getattr(directions, k)) for k in _ARRAYS}
    header = {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, to_safetensors(arrays, header))


def load(path: Path) -> Directions:
    """Reads what :func:`save` wrote.

    Raises:
        UneError: there is no such file, or it is none of ours, or damaged.

    >>> import tempfile
    >>> view = View(
    ...     name="sd", kind="generator", model_id="some/sd", weights_sha256="0" * 64,
    ...     config={}, shape=(1, 1, 2), dtype="float32", settings={"steps": 50},
    ... )
    >>> move = np.array([[0.6, 0.8]], np.float32)
    >>> one = np.ones(1, np.float32)
    >>> smile = Directions(
    ...     names=("Smiling",), moves=move, spread=one, length=one, readers=move,
    ...     bias=one, view=view, zoo="1" * 64, method={"name": "probe"},
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "smile.safetensors"), smile)
    ...     load(Path(folder, "smile.safetensors")).names
    ('Smiling',)
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            checks.require(
                header.get("format") == FORMAT, str(path), "is no file of directions"
            )
            about = json.loads(header["about"])
            arrays = {k: file.get_tensor(k) for k in _ARRAYS}
        view = {**about["view"], "shape": tuple(about["view"]["shape"])}
        return Directions(
            names=tuple(about["names"]),
            view=View(**view),
            zoo=about["zoo"],
            method=about["method"],
            **arrays,
        )
    except FileNotFoundError as error:
        raise UneError(f"there is no file {path}") from error
    except UneError as error:
        raise UneError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error  # fmt: skip
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UneError(f"{path} is no file of directions: {error}") from error


def _difference(field: str, ours: Any, theirs: Any) -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        none = object()  # a setting that is null is there
        key = next(k for k in {**ours, **theirs} if ours.get(k, none) != theirs.get(k, none))  # fmt: skip
        return f"{field}.{key} is {theirs.get(key)!r}, not {ours.get(key)!r}"
    return f"{field} is {theirs!r}, not {ours!r}"
