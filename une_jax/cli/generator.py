"""A diffusion pipeline as the commands use it: images to noise, and back."""

import functools as ft
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, UInt8
from PIL import Image

from ports import stable_diffusion
from ports.checkpoint import CheckpointError
from ports.conditioning import Condition
from ports.port import Port
from une_jax import consistency, images, parallel, shells
from une_jax.cli import costs, programs
from une_jax.cli.batches import DTYPES, Output, batch_size_for, batched
from une_jax.cli.devices import device_mesh
from une_jax.cli.layout import nchw, nhwc
from une_jax.cli.names import Model, resolve
from une_jax.cli.settings import CONTROL_SEED, Settings, settings_of, views_of
from une_jax.errors import UneError
from une_jax.schedule import Schedule
from une_jax.zoo import View

# Of a consistency model's own way of sampling.
FEW_STEPS = 4
EDITED = 16  # batches of edits, of which the noise is on the host at a time
Cond = jax.Array | Condition
Origin = Mapping[str, np.ndarray]
"""Rows of a generator's noise and of the view beside it, by name: where noise is from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """A diffusion pipeline with an inversion schedule. Get one from ``load_generator``.

    Where decoding takes ``prompts``, they are one an image, for ``Settings.prompt`` None.
    Its ``origin`` is what a method kept beside the noise (``decodes_from``), with the
    noise from which the given one was moved; methods that keep nothing ignore it.
    Without it, an image is sampled from the noise alone.
    """

    name: str
    views: tuple[View, ...]
    size: int
    settings: Settings
    sd: stable_diffusion.StableDiffusion = field(repr=False)
    vae_params: Any = field(repr=False)
    walk_params: dict[str, Any] = field(repr=False)
    few_steps: consistency.Steps | None = field(repr=False)
    mesh: Mesh
    batch_size: int

    @property
    def vae(self) -> programs.Pictures:
        """The VAE's compiled programs."""
        return programs.pictures(self.sd.vae.apply, self.sd.vae.config, self.mesh)

    @property
    def unet(self) -> Port:
        return self.sd.unet

    @property
    def walks(self) -> programs.Walks:
        """The UNet's compiled programs."""
        how = self.settings
        return programs.walks(
            self.sd.unet.apply, self.mesh, how.method, how.eta, how.stored
        )

    @property
    def decodes_from(self) -> tuple[str, ...]:
        """The views of an image that give it back: noise, and what is kept beside it."""
        code = self.settings.code
        return (self.name, self.name + code) if code else (self.name,)

    def prepare(self, image: Image.Image) -> np.ndarray:
        return images.centre_crop(image, self.size)

    def compute(
        self,
        pixels: np.ndarray,
        rows: np.ndarray,
        prompts: Sequence[str] | None = None,
    ) -> Output:
        """(b, size, size, 3) uint8 and the rows' numbers -> noise and measurements.

        ``prompts``, one an image, where ``Settings.prompt`` is None, and only there:
        UneError otherwise. Latents are NCHW.
        """
        own = self.settings.prompt is None
        if own != (prompts is not None):
            needs = "needs a prompt for" if own else "has one prompt, not one for"
            raise UneError(f"{self.name} {needs} each image")
        batch = {"pixels": pixels, "row": np.asarray(rows, np.int32)}
        out = self._run(self._inverted, batch | self._told(None, prompts))
        kinds = ("residual", "round_trip", "psnr")
        columns = {f"{k}/{self.name}": out.pop(k) for k in kinds if k in out}
        names = dict(zip(self.decodes_from, ("x_T", "code"), strict=False))
        arrays = {
            v.name: nchw(out[names.get(v.name, v.name.rpartition(".")[2])], v.dtype)
            for v in self.views
        }
        return Output(arrays=arrays, columns=columns)

    def decode(
        self,
        noise: np.ndarray,
        cond: Cond | None = None,
        *,
        prompts: Sequence[str] | None = None,
        origin: Origin | None = None,
    ) -> np.ndarray:
        """NCHW noise (b, 4, h, w) -> uint8 images; ``cond`` for one prompt."""

        def run(batch):
            return programs.rounded(self._pictures(self._sampled(batch, cond)))

        return self._run(run, self._noise(noise, cond, prompts, origin))

    def edit(
        self,
        origin: Origin,
        moves: Float32[np.ndarray, "m d"],
        amounts: Float32[np.ndarray, "n s m"],
        *,
        control: shells.Control = "off",
        prompts: Sequence[str] | None = None,
    ) -> UInt8[np.ndarray, "n s size size 3"]:
        """n images at s places each: their noise plus ``amounts @ moves``, decoded.

        Beside the results, no more than ``EDITED`` batches of latents are in memory.

        Args:
            origin: the images' rows of the views of ``decodes_from``. Amounts of zero
                give what these themselves give back.
            moves: directions, flattened as the latents are stored.
            control: how a moved latent is brought back to its shell.
            prompts: one an image, as for ``decode``.
        """
        n, places, _ = amounts.shape
        moves = parallel.replicate(np.asarray(moves, np.float32), self.mesh)
        move = ft.partial(programs.mover(self.mesh, control), moves)
        flat = np.asarray(amounts, np.float32).reshape(n * places, -1)
        at = np.repeat(np.arange(n), places)
        parts = []
        for start in range(0, len(flat), EDITED * self.batch_size):
            some = slice(start, start + EDITED * self.batch_size)
            rows = {name: np.asarray(x)[at[some]] for name, x in origin.items()}
            noise = np.asarray(rows[self.name], np.float32)
            batch = {"x_T": noise, "amounts": flat[some]}
            moved = batched(move, batch, self.mesh, self.batch_size)
            said = None if prompts is None else [prompts[int(i)] for i in at[some]]
            parts.append(self.decode(moved, prompts=said, origin=rows))
        images = np.concatenate(parts)
        return images.reshape(n, places, *images.shape[1:])

    @property
    def samples_in_few_steps(self) -> bool:
        """Whether this is a consistency model, with a ``decode_few``."""
        return self.few_steps is not None

    def decode_few(self, noise: np.ndarray, cond: Cond | None = None) -> np.ndarray:
        """``decode`` in ``FEW_STEPS`` consistency steps, which draw noise of their own."""
        if self.few_steps is None:
            raise UneError(f"{self.name} is no consistency model; use decode")
        params = {**self._params(cond), "steps": self.few_steps}

        def run(batch):
            latents, more = _split(batch)
            x0 = self.walks.few(params, latents, more)
            return programs.rounded(self._pictures(x0))

        return self._run(run, self._noise(noise, cond, None, None))

    def denoise(
        self,
        noise: np.ndarray,
        *,
        prompts: Sequence[str] | None = None,
        origin: Origin | None = None,
    ) -> np.ndarray:
        """NCHW noise -> NCHW latents x0: ``decode`` without the VAE."""
        batch = self._noise(noise, None, prompts, origin)
        return nchw(self._run(self._sampled, batch), "float32")

    def states(
        self,
        x0: np.ndarray,
        schedule: Schedule,
        at: Sequence[int],
        *,
        prompts: Sequence[str] | None = None,
    ) -> np.ndarray:
        """NCHW latents (b, c, h, w) -> (b, m, c, h, w): plain DDIM inversion along
        ``schedule``, whatever the settings' own, at m timesteps of its ``reached``."""
        along = {"steps": schedule, "at": jnp.asarray(at, jnp.int32)}
        states = self.walk(self.walks.states, x0, extra=along, prompts=prompts)
        return np.ascontiguousarray(np.moveaxis(states, -1, -3))

    def walk(
        self,
        walk: programs.Walk,
        latents: np.ndarray,
        *,
        extra: Mapping[str, Any] | None = None,
        more: Mapping[str, np.ndarray] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Any:
        """Any walk of NCHW latents, in batches: numpy out, as the walk gives it.

        ``extra`` is put into the walk's params, ``more`` beside the rows.
        """
        params = self._params(None) | parallel.replicate(dict(extra or {}), self.mesh)
        batch = self._noise(latents, None, prompts, None) | dict(more or {})
        return self._run(lambda rows: walk(params, *_split(rows)), batch)

    def paint(self, x0: np.ndarray) -> np.ndarray:
        """NCHW latents x0 -> uint8 images: the VAE alone."""
        return self._run(lambda x: programs.rounded(self._pictures(x)), nhwc(x0))

    def autoencode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 images through the VAE and back: what no inversion can improve on."""

        def run(pixels):
            x0 = self.vae.encode(self.vae_params, pixels)
            return programs.rounded(self._pictures(x0))

        return self._run(run, pixels)

    def condition(self, prompt: str, guidance: float | None = None) -> Cond:
        """What the UNet is told for one prompt, guidance aside (unless it embeds it: its
        scale, by default that of the settings)."""
        scale = self.settings.guidance if guidance is None else guidance
        return condition(self.sd, [prompt], self.size, scale)

    def seconds_per_image(self) -> dict[str, float]:
        """Of each stage of ``compute``, measured by one warm call on random input.

        At the build's batch size; the scans are not compiled. What a method repeats as
        often as it must (fixed-point) counts at its most.
        """
        return costs.seconds(self)

    def flops_per_image(self) -> dict[str, float]:
        """Of the same stages, in floating-point operations; nothing is computed."""
        return costs.flops(self)

    def _inverted(self, batch: Any) -> dict[str, Any]:
        """Starts all that ``compute`` asks of a batch on the devices."""
        how, params = self.settings, self._params(None)
        x0 = self.vae.encode(self.vae_params, batch["pixels"])
        clean = jnp.copy(x0)  # inversion takes the memory of x0
        more = {k: batch[k] for k in ("row", "cond") if k in batch}
        out = self.walks.invert(params, x0, more)
        if how.round_trip != "none":
            more |= {"code": out["code"]} if "code" in out else {}
            again = self.walks.sample(params, jnp.copy(out["x_T"]), more)
            out["round_trip"] = programs.missed(again, clean)
            if how.round_trip == "pixels":
                out["psnr"] = programs.psnr(self._pictures(again), batch["pixels"])
        if how.controls:
            alpha = params["steps"].inversion.alpha_to[-1]
            keys = programs.row_keys(CONTROL_SEED, batch["row"])
            out["x0"] = clean
            out["forward"] = programs.forward_noised(clean, alpha, keys)
        return out

    def _sampled(self, batch: Any, cond: Cond | None = None) -> jax.Array:
        params, (latents, more) = self._params(cond), _split(batch)
        if "origin" in more and self.walks.follow:
            moved = {**more, "x_T": latents}
            more["code"] = self.walks.follow(params, more.pop("code"), moved)
        return self.walks.sample(params, latents, _without(more, "origin"))

    def _noise(
        self,
        noise: np.ndarray,
        cond: Cond | None,
        prompts: Sequence[str] | None,
        origin: Origin | None,
    ) -> dict[str, Any]:
        """The rows of a batch that is to be decoded."""
        x_T = nhwc(noise)
        batch = {"x_T": x_T, "row": np.arange(len(noise), dtype=np.int32)}
        if origin is not None and self.settings.code:
            n = self.views[1].shape[0] // self.views[0].shape[0]
            batch["code"] = nhwc(origin[self.decodes_from[1]], n)
            start = nhwc(origin[self.name])
            if self.walks.follow and not np.array_equal(start, x_T):
                batch["origin"] = start
        return batch | self._told(cond, prompts)

    def _told(self, cond: Cond | None, prompts: Sequence[str] | None) -> dict[str, Any]:
        """Each image's own condition, as rows of a batch."""
        if cond is not None:
            return {}
        if (self.settings.prompt is None) != (prompts is not None):
            raise UneError(
                f"{self.name}: give prompts, one an image, where each has its own, and "
                "only there"
            )
        if prompts is None:
            return {}
        different = list(dict.fromkeys(prompts))
        encode = ft.partial(
            condition,
            self.sd,
            size=self.size,
            guidance=self.settings.guidance,
        )
        parts = []
        for start in range(0, len(different), self.batch_size):
            some = different[start : start + self.batch_size]
            full = some + [some[-1]] * (self.batch_size - len(some))
            told = jax.tree.map(np.asarray, encode(full))
            parts.append(jax.tree.map(lambda x: x[: len(some)], told))  # noqa: B023
        told = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
        places = [different.index(prompt) for prompt in prompts]
        return {"cond": jax.tree.map(lambda x: x[places], told)}

    def _params(self, cond: Cond | None) -> dict[str, Any]:
        how = self.settings
        if cond is not None:
            # Placed as the own prompt is, or the program would be compiled anew.
            return {**self.walk_params, "cond": parallel.replicate(cond, self.mesh)}
        if how.prompt is not None and how.prompt == how.negative:
            return {**self.walk_params, "guidance": None}  # the branches are the same
        return self.walk_params

    def _pictures(self, x0: jax.Array) -> jax.Array:
        return self.vae.decode(self.vae_params, x0)

    def _run(self, run: Callable[[Any], Any], batch: Any) -> Any:
        return batched(run, batch, self.mesh, self.batch_size)


def condition(
    sd: stable_diffusion.StableDiffusion,
    prompts: Sequence[str],
    size: int,
    guidance: float,
) -> Cond:
    """What the UNet is told for each prompt at this image size, guidance aside.

    Consistency models embed the guidance: it is in what they are told.
    """
    embeds = sd.unet.config.time_cond_proj_dim is not None
    cond = stable_diffusion.encode_prompts(
        sd, prompts, guidance_scale=guidance if embeds else "unset", size=size
    )
    return jax.tree.map(lambda x: jnp.repeat(x, len(prompts) // len(x), axis=0), cond)


def load_generator(
    model: Model,
    settings: Settings,
    *,
    batch_size: int | None = None,
    rows: int | None = None,
) -> Generator:
    """A pipeline with its weights and its schedule on the devices.

    ``rows`` is the most that a call will have, where the batch need not be larger.
    """
    sd = stable_diffusion.load(
        model.source, revision=model.revision, dtype=DTYPES[settings.dtype]
    )
    factor = 2 ** (len(sd.vae.config.block_out_channels) - 1)
    size = settings.size or (sd.unet.config.sample_size or 64) * factor
    if size % factor:
        raise UneError(f"--size {size} is not a multiple of {factor}, as {model.name}'s VAE needs")  # fmt: skip
    schedule = Schedule.from_config(
        sd.scheduler, steps=settings.steps, eval_at=settings.eval_at
    )
    few, guidance, scale = None, None, settings.guidance
    if sd.unet.config.time_cond_proj_dim is not None:
        few = consistency.steps_of(sd.scheduler, steps=FEW_STEPS)
        if settings.negative:
            raise UneError(f"{model.name} embeds its guidance: it takes no negative prompt")  # fmt: skip
    elif scale != 1:
        without = condition(sd, [settings.negative], size, scale)
        guidance = {"without": without, "scale": jnp.full(1, scale, jnp.float32)}
    mesh = device_mesh()
    walk = {
        "unet": sd.unet.params,
        "cond": condition(sd, [settings.prompt or ""], size, scale),
        "steps": schedule,
        "guidance": guidance,
        "key": jax.random.key(settings.seed),
    }
    edge = size // factor
    return Generator(
        name=model.name,
        views=views_of(model, sd, settings, schedule, size=size, edge=edge),
        size=size,
        settings=settings,
        sd=sd,
        vae_params=parallel.replicate(sd.vae.params, mesh),
        walk_params=parallel.replicate(walk, mesh),
        few_steps=parallel.replicate(few, mesh),
        mesh=mesh,
        batch_size=batch_size_for(batch_size, rows, edge * edge, mesh),
    )


def generator_of_view(
    view: View, source: str | None = None, *, rows: int | None = None
) -> Generator:
    """The model that made a zoo's generator view, under the view's own settings.

    ``source`` (a path, hub id or built-in name) is needed where ``view.model_id`` does
    not say where to find it; ``rows`` as for ``load_generator``. Raises UneError if its
    weights are not the view's, or the view does not say how it was made.
    """
    settings = settings_of(view)
    try:
        model = resolve(source or view.model_id)
        named = model._replace(name=view.name, model_id=view.model_id)
        generator = load_generator(named, settings, rows=rows)
    except (CheckpointError, UneError) as e:
        where = "" if source else " (say where the model is with --generator)"
        raise UneError(f"{e}{where}") from e
    if generator.views[0].weights_sha256 != view.weights_sha256:
        raise UneError(
            f"{model.source} holds other weights than the model that made view "
            f"{view.name!r}: name that one with --generator"
        )
    return generator


def _split(batch: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
    return batch["x_T"], _without(batch, "x_T")


def _without(batch: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in batch.items() if k != name}
