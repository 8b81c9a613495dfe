"""The miniature's DINOv3: self-distilled, without labels or captions.

A student that sees parts of a face must say what its own average says of most of it
(DINO, arXiv 2104.14294), with the teacher's answers balanced over the batch
(Sinkhorn-Knopp, as in DINOv2, arXiv 2304.07193). Colours stay, since hair and skin are
what there is to know.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ports import dinov3
from ports.port import Params, Port, init
from scripts.miniature import card, data, export
from scripts.miniature.loop import train

CONFIG = dinov3.Config(
    hidden_size=96,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=64,
    patch_size=8,
    layerscale_value=0.1,
    num_register_tokens=4,
)
PREPROCESSOR = {
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "do_resize": True,
    "size": {"height": 64, "width": 64},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
}
FACES, STEPS, BATCH, RATE, DECAY = data.FIRST, 1500, 64, 1e-3, 0.996
INIT_SEED, TRAIN_SEED = 19, 8
GLOBALS, LOCALS = 2, 4
GLOBAL_SIZE, LOCAL_SIZE = 64, 32
GLOBAL_SCALE, LOCAL_SCALE = (0.6, 1.0), (0.35, 0.6)  # of the side
HIDDEN, BOTTLENECK, PROTOTYPES = 256, 64, 512
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05


def head_init(key: jax.Array) -> Params:
    """The projection head, which is thrown away after training."""
    sizes = (CONFIG.hidden_size, HIDDEN, BOTTLENECK, PROTOTYPES)
    keys = jax.random.split(key, len(sizes) - 1)
    return {
        f"w{i}": jax.random.normal(k, (m, n)) * m**-0.5
        for i, (k, m, n) in enumerate(zip(keys, sizes[:-1], sizes[1:], strict=True))
    }


def head(params: Params, x: jax.Array) -> jax.Array:
    """Class tokens (n, d) -> logits (n, PROTOTYPES): cosines with the prototypes."""
    x = jax.nn.gelu(x @ params["w0"]) @ params["w1"]
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x @ (params["w2"] / jnp.linalg.norm(params["w2"], axis=0, keepdims=True))


def views(
    key: jax.Array, images: jax.Array, size: int, scale: tuple[float, float]
) -> jax.Array:
    """A random square of each image at (size, size), lighter or darker, noisy."""

    def one(key, image):
        k_side, k_at, k_gain, k_noise, k_flip = jax.random.split(key, 5)
        side = jax.random.uniform(k_side, minval=scale[0], maxval=scale[1])
        corner = jax.random.uniform(k_at, (2,)) * (1 - side)
        zoom = size / (image.shape[0] * side)
        view = jax.image.scale_and_translate(
            image,
            (size, size, 3),
            (0, 1),
            jnp.full(2, zoom),
            -corner * image.shape[0] * zoom,
            "linear",
        )
        gain, shift = jax.random.uniform(k_gain, (2, 1, 1, 1), minval=-1.0)
        view = view * (1 + 0.15 * gain) + 0.15 * shift
        view = jnp.where(jax.random.bernoulli(k_flip), view, view[:, ::-1])
        return view + 0.05 * jax.random.normal(k_noise, view.shape)

    return jax.vmap(one)(jax.random.split(key, len(images)), images)


def balanced(logits: jax.Array, rounds: int = 3) -> jax.Array:
    """The teacher's answers (n, PROTOTYPES), every prototype used as often."""
    q = jnp.exp((logits - logits.max()) / TEACHER_TEMPERATURE)
    for _ in range(rounds):
        q = q / q.sum(0, keepdims=True)
        q = q / q.sum(1, keepdims=True)
    return q


def loss_fn(port: Port):
    """Cross entropy of every student's view with every other, global, teacher's one."""

    def answers(params, x):
        return head(params["head"], port.apply(params["trunk"], x).cls)

    def loss(params, average, images, key):
        n, keys = len(images), jax.random.split(key, GLOBALS + LOCALS)
        whole = [views(k, images, GLOBAL_SIZE, GLOBAL_SCALE) for k in keys[:GLOBALS]]
        parts = [views(k, images, LOCAL_SIZE, LOCAL_SCALE) for k in keys[GLOBALS:]]
        whole, parts = jnp.concatenate(whole), jnp.concatenate(parts)
        teacher = balanced(jax.lax.stop_gradient(answers(average, whole)))
        teacher = teacher.reshape(GLOBALS, n, -1)
        said = jnp.concatenate([answers(params, whole), answers(params, parts)])
        said = jax.nn.log_softmax(said / STUDENT_TEMPERATURE)
        said = said.reshape(GLOBALS + LOCALS, n, -1)
        pairs = [
            -(teacher[i] * said[j]).sum(-1).mean()
            for i in range(GLOBALS)
            for j in range(GLOBALS + LOCALS)
            if i != j
        ]
        entropy = jnp.stack(pairs).mean()
        used = jnp.zeros(PROTOTYPES).at[teacher.argmax(-1).ravel()].set(1).sum()
        return entropy, {"entropy": entropy, "prototypes": used}

    return loss


def plan(name: str) -> card.Plan:
    del name
    return card.Plan(
        what=(
            "DINOv3 ViT (rotary positions, registers, LayerScale), patches of 8, "
            "self-distilled without labels or captions."
        ),
        steps=STEPS,
        faces=FACES,
        settings={
            "batch": f"{BATCH}, in {GLOBALS} global and {LOCALS} local views",
            "peak learning rate": RATE,
            "decay of the teacher's average": DECAY,
            "temperatures": f"student {STUDENT_TEMPERATURE}, teacher "
            f"{TEACHER_TEMPERATURE}",
            "seeds": f"weights {INIT_SEED}, head {INIT_SEED + 1}, batches and views "
            f"{TRAIN_SEED}",
        },
    )


def run(name: str, runs: Path, out: Path, *, steps: int, faces: range) -> None:
    """Train; write ``out/name`` as transformers lays out a DINOv3ViTModel."""
    images = data.images(faces)
    port = init(dinov3.DinoV3, CONFIG, jax.random.key(INIT_SEED))
    first = {"trunk": port.params, "head": head_init(jax.random.key(INIT_SEED + 1))}
    mean, std = (np.float32(PREPROCESSOR[f"image_{k}"]) for k in ("mean", "std"))

    def batch(key):
        rows = data.pick(key, len(images), BATCH)
        return jnp.asarray((images[rows] / np.float32(255) - mean) / std)

    params = train(
        runs / name,
        first,
        loss_fn(port),
        batch,
        steps=steps,
        rate=RATE,
        decay=DECAY,
        seed=TRAIN_SEED,
    )
    raw = {"architectures": ["DINOv3ViTModel"], "model_type": "dinov3_vit"}
    folder = out / name
    export.transformers_model(folder, raw | dataclasses.asdict(CONFIG), params["trunk"])
    export.write_json(folder / "preprocessor_config.json", PREPROCESSOR)
