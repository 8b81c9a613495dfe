"""DDIM inversion by diffusers' loop and by ours: targets of ``Side``.

Both load one pipeline folder (diffusers' layout) and one file of inputs, which
``prepare`` writes. Arrays that leave a side are in our layout (NHWC), float32.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts import reference_models as ref
from scripts.side import Commands, our_matrix, resident_peak, timed, torch_matrix

# Of the published pipelines, as far as DDIM reads it.
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


class Job(NamedTuple):
    """What the sides run. ``pipeline`` is made where it is missing.

    ``dtype`` is the UNet's, ``vae_dtype`` the VAE's ("" for no VAE at all);
    ``compile_mode`` is torch.compile's ("" for eager), or "frozen": the default mode with
    weights as constants, which inductor then packs ahead for its kernels.
    """

    name: str
    full: bool
    pipeline: Path
    work: Path
    batch: int
    size: int  # edge of the latents
    steps: int
    dtype: str = "float32"
    vae_dtype: str = ""
    compile_mode: str = ""

    @property
    def inputs(self) -> Path:
        return self.work / "inputs.npz"


def prepare(job: Job) -> tuple[dict[str, Any], Commands]:
    """Writes the pipeline, with random weights, where it is missing, and the inputs."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.set_grad_enabled(False)
    drawn = not job.pipeline.exists()
    if drawn:
        for name, part in ((job.name, "unet"), ("vae", "vae")):
            ref.build(name, full=job.full).save_pretrained(job.pipeline / part)
        DDIMScheduler(**SCHEDULER).save_pretrained(job.pipeline / "scheduler")

    def config(kind: Any, part: str) -> dict[str, Any]:
        return kind.load_config(job.pipeline, subfolder=part)

    unet, vae = config(UNet2DConditionModel, "unet"), config(AutoencoderKL, "vae")
    edge = job.size * 2 ** (len(vae["block_out_channels"]) - 1)
    pixels = photographs(job.batch, edge)
    x0 = ref.normal(job.batch, job.size, job.size, unet["in_channels"])
    if job.vae_dtype or not drawn:
        model = AutoencoderKL.from_pretrained(job.pipeline, subfolder="vae")
        x0 = np.concatenate([encode(model.eval(), pixels[i : i + 1]) for i in range(len(pixels))])  # fmt: skip
    if (job.pipeline / "text_encoder").is_dir():
        context = _empty_prompt(job.pipeline)
    else:
        context = ref.normal(1, 77, unet["cross_attention_dim"], seed=1)
    np.savez(job.inputs, x0=x0, pixels=pixels, context=context)

    def encoder(model: Any, images: np.ndarray) -> Any:
        return model.encode(ref.nchw(images, next(model.parameters())))

    step = (ref.normal(1, *x0.shape[1:]), np.ones(1, np.int32), context)
    image = (ref.normal(1, edge, edge, 3),)
    make_unet = lambda: UNet2DConditionModel.from_config(unet)  # noqa: E731
    make_vae = lambda: AutoencoderKL.from_config(vae)  # noqa: E731
    opened = {
        "step_flops": ref.count_flops(make_unet, ref.run_unet, step),
        "encode_flops": ref.count_flops(make_vae, encoder, image),
        "pixels": edge,
    }
    return opened, {}


def photographs(n: int, edge: int) -> np.ndarray:
    """Crops of scikit-learn's two photographs, (n, edge, edge, 3) uint8."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(x) for x in load_sample_images().images]
    rng = np.random.default_rng(0)
    crops = []
    for i in range(n):
        photo = photos[i % len(photos)]
        side = int(rng.integers(256, min(photo.size) + 1))
        left, top = (int(rng.integers(0, full - side + 1)) for full in photo.size)
        box = (left, top, left + side, top + side)
        crops.append(np.asarray(photo.resize((edge, edge), Image.Resampling.BICUBIC, box)))  # fmt: skip
    return np.stack(crops)


def encode(vae: Any, pixels: np.ndarray) -> np.ndarray:
    """uint8 images -> latents as the UNet takes them, by diffusers, (b, h, w, 4)."""
    images = ref.nchw(pixels, next(vae.parameters())) / 127.5 - 1
    return _to_numpy(_latents(vae, images))


def _latents(vae: Any, images: Any) -> Any:
    return vae.encode(images).latent_dist.mode() * vae.config.scaling_factor


def _to_numpy(x: Any) -> np.ndarray:
    return ref.nhwc(x.float()).cpu().numpy()


def _empty_prompt(pipeline: Path) -> np.ndarray:
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(pipeline, subfolder="tokenizer")
    length = tokenizer.model_max_length
    ids = tokenizer([""], padding="max_length", max_length=length).input_ids
    tower = CLIPTextModel.from_pretrained(pipeline, subfolder="text_encoder")
    return tower.eval()(torch.tensor(ids)).last_hidden_state.numpy()


def torch_inversion(job: Job) -> tuple[dict[str, Any], Commands]:
    """diffusers' loop as its pipelines write it, latents in the UNet's dtype.

    Commands: ``encode``, ``invert`` (from the file's x0) and ``sample`` (from the x_T
    that ``invert`` last found) give (seconds, latents); ``matrix`` FLOP/s and
    ``memory`` peak bytes.
    """
    # The first call compiles in earnest, whatever ran before.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.work / f"inductor-{job.dtype}")
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMInverseScheduler,  # pyright: ignore[reportPrivateImportUsage]
        DDIMScheduler,
        UNet2DConditionModel,
    )
    from torch._inductor import config as inductor

    torch.set_grad_enabled(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, job.dtype)
    if job.dtype == "float32":  # the reference that half precision is held against
        torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    given = np.load(job.inputs)

    def load(kind: Any, part: str, dtype: Any) -> Any:
        model = kind.from_pretrained(job.pipeline, subfolder=part, torch_dtype=dtype)
        model = model.eval().to(device)
        return model.to(memory_format=torch.channels_last) if device == "cuda" else model  # fmt: skip

    def place(x: np.ndarray, dtype: Any) -> Any:
        y = ref.nchw(x, torch.empty(0, device=device, dtype=dtype))
        return y.to(memory_format=torch.channels_last) if device == "cuda" else y

    def timed_on_device(run: Callable[[], Any]) -> tuple[float, np.ndarray]:
        def wait() -> Any:
            out = run()
            if device == "cuda":
                torch.cuda.synchronize()
            return out

        seconds, out = timed(wait)
        return seconds, _to_numpy(out)

    unet = load(UNet2DConditionModel, "unet", dtype)
    context = torch.from_numpy(given["context"]).to(device, dtype)
    context = context.expand(job.batch, -1, -1)
    x0 = place(given["x0"], dtype)

    def compiled(model: Any) -> Any:
        if not job.compile_mode:
            return model
        frozen = job.compile_mode == "frozen"
        inductor.freezing = frozen
        mode = "default" if frozen else job.compile_mode
        return torch.compile(model, mode=mode, fullgraph=True)

    forward = compiled(unet)

    # Their config clips by default what no latent model clips.
    config: Any = DDIMScheduler.load_config(job.pipeline, subfolder="scheduler")
    config = {**config, "clip_sample": False}

    def walk(kind: Any) -> Callable[[Any], Any]:
        scheduler = kind.from_config(config)
        scheduler.set_timesteps(job.steps)
        # The loop reads its tables on the host, the UNet its timesteps on the device,
        # so that nothing in the loop waits for the device.
        ts = [(t, t.to(device)) for t in scheduler.timesteps]

        def run(x: Any) -> Any:
            for t, t_device in ts:
                out = forward(x, t_device, encoder_hidden_states=context, return_dict=False)[0]  # fmt: skip
                x = scheduler.step(out, t, x, return_dict=False)[0]
            return x

        return run

    up, down = walk(DDIMInverseScheduler), walk(DDIMScheduler)
    noise = x0

    def invert() -> tuple[float, np.ndarray]:
        nonlocal noise
        seconds, x_T = timed_on_device(lambda: up(x0))
        noise = place(x_T, dtype)
        return seconds, x_T

    commands: Commands = {
        "invert": invert,
        "sample": lambda: timed_on_device(lambda: down(noise)),
        "matrix": lambda: torch_matrix(device, dtype, full=job.full),
        "memory": torch.cuda.max_memory_allocated
        if device == "cuda"
        else resident_peak,  # fmt: skip
    }
    if job.vae_dtype:
        vae_dtype = getattr(torch, job.vae_dtype)
        vae = load(AutoencoderKL, "vae", vae_dtype)
        vae.encoder = compiled(vae.encoder)
        pixels = place(given["pixels"], torch.uint8)
        commands["encode"] = lambda: timed_on_device(
            lambda: _latents(vae, pixels.to(vae_dtype) / 127.5 - 1)
        )
    opened = {
        "version": f"torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
    }
    return opened, commands


def our_inversion(job: Job) -> tuple[dict[str, Any], Commands]:
    """The programs that ``une-jax build`` runs; commands as ``torch_inversion``'s."""
    import jax

    from ports import unet, vae
    from ports.checkpoint import read_json
    from une_jax import parallel
    from une_jax.cli import programs
    from une_jax.schedule import Schedule

    jax.config.update("jax_compilation_cache_dir", str(job.work / "compiled"))
    device = jax.devices()[0]
    mesh = parallel.data_mesh([device])
    given = np.load(job.inputs)
    folder = str(job.pipeline)
    port = unet.load(folder, subfolder="unet", dtype=np.dtype(job.dtype))
    config = read_json(job.pipeline / "scheduler" / "scheduler_config.json")
    params = {
        "unet": port.params,
        "cond": jax.numpy.asarray(given["context"]),
        "steps": Schedule.from_config(config, steps=job.steps, eval_at="target"),
        "guidance": None,
        "key": None,  # of random methods
    }
    params = parallel.replicate(params, mesh)
    walks = programs.walks(port.apply, mesh)
    shape = parallel.shard_batch(given["x0"], mesh)

    def build(program: Any) -> tuple[float, float, Any]:
        def once() -> Any:
            jax.clear_caches()
            return program.lower(params, shape, {}).compile()

        cold, _ = timed(once)
        cached, compiled = timed(once)
        return cold, cached, compiled

    def run(program: Any, x: np.ndarray) -> tuple[float, Any]:
        batch = jax.block_until_ready(parallel.shard_batch(x, mesh))  # given away
        seconds, out = timed(lambda: jax.block_until_ready(program(batch)))
        return seconds, jax.tree.map(np.asarray, out)

    cold, cached, inverted = build(walks.invert)
    _, _, sampled = build(walks.sample)
    noise = given["x0"]

    def invert() -> tuple[float, np.ndarray]:
        nonlocal noise
        seconds, out = run(lambda x0: inverted(params, x0, {}), given["x0"])
        noise = out["x_T"]
        return seconds, noise

    def memory() -> int:
        stats = device.memory_stats() or {}
        return stats.get("peak_bytes_in_use") or resident_peak()

    commands: Commands = {
        "invert": invert,
        "sample": lambda: run(lambda x_T: sampled(params, x_T, {}), noise),
        "matrix": lambda: our_matrix(np.dtype(job.dtype), full=job.full),
        "memory": memory,
    }
    if job.vae_dtype:
        pictures = vae.load(folder, subfolder="vae", dtype=np.dtype(job.vae_dtype))
        to_latents = programs.pictures(pictures.apply, pictures.config, mesh).encode
        commands["encode"] = lambda: run(
            lambda pixels: to_latents(pictures.params, pixels), given["pixels"]
        )
    opened = {
        "compile_seconds": cold,
        "cached_seconds": cached,
        "version": f"jax {jax.__version__}",
        "device": device.device_kind,
    }
    return opened, commands
