"""Score every member of the miniature zoo on faces that none was trained on.

    python scripts/score_miniature.py --out scores

Prints README's tables. In ``--out``: the faces, their NoiseZoo and, for every
generator, a sheet of samples (one prompt a row) to look at.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PROMPTS, EACH = 64, 4  # images per prompt
MEASURED = 64


@dataclass(frozen=True, kw_only=True)
class Args:
    """Score the shipped miniature models on held-out faces."""

    out: Path
    """folder for the faces, the NoiseZoo and the sheets; used again if it is there"""
    n: int = 800
    """faces; the default is the demo's"""
    steps: int = 50
    """DDIM steps"""
    seed: int = 1
    """the stream of faces, and of the prompts' noise"""


def main(args: Args) -> None:
    from une_jax import miniature, zoo
    from une_jax.cli.build import Build
    from une_jax.cli.devices import configure_jax
    from une_jax.cli.faces import ATTRIBUTES, IMAGES, Faces
    from une_jax.miniature import truth

    configure_jax()
    faces = args.out / "faces"
    Faces(out=faces, n=args.n, seed=args.seed).run()
    Build(
        images=faces / IMAGES,
        attributes=faces / ATTRIBUTES,
        generator=miniature.GENERATORS,
        encoder=miniature.ENCODERS,
        steps=args.steps,
        round_trip="none",  # measured below
        controls=True,
        out=args.out / "zoo",
    ).run()
    opened = zoo.open(args.out / "zoo")
    known = truth.read(faces / truth.FILE, opened.keys)
    pixels = _Faces(faces / IMAGES, opened.keys)
    generators(args, opened, pixels)
    views(opened, known, pixels)


class _Faces:
    def __init__(self, folder: Path, keys):
        self.folder, self.keys = folder, keys

    def __call__(self, model, rows) -> np.ndarray:
        """The rows' images, as the model's own preprocessing gives them."""
        from une_jax import images

        return np.stack(
            [model.prepare(images.decode(self.folder / self.keys[i])) for i in rows]
        )


def generators(args: Args, opened, pixels: _Faces) -> None:
    """VAE, round trip, agreement with prompts."""
    from une_jax import miniature
    from une_jax.cli.generator import FEW_STEPS, generator_of_view
    from une_jax.miniature import captions, factors
    from une_jax.report import figures

    rows = opened.split("test")[:MEASURED]
    # Another stream than the faces': what the prompts ask for.
    asked = factors.draw(jax.random.key(args.seed + 1), PROMPTS)
    wanted = np.asarray(asked.attributes)
    prompts = captions.write(wanted, np.random.default_rng(args.seed), mention=1.0)
    labels = np.repeat(wanted, EACH, axis=0)
    from une_jax.miniature import render

    painted = np.asarray(render.faces(asked.scores, asked.nuisance))
    ceiling = agreement(np.asarray(painted * 255 + 0.5).astype(np.uint8), wanted)
    print(
        "\n| generator | VAE PSNR | round trip PSNR | latents' MSE / variance | agreement with "
        f"the prompt, {args.steps} steps | in {FEW_STEPS} steps |\n|---|---:|---:|---:|---:|---:|"
    )
    for name in miniature.GENERATORS:
        generator = generator_of_view(opened[name].view, rows=MEASURED)
        x = pixels(generator, rows)
        noise = opened[name][rows]
        x0 = np.asarray(opened[f"{name}.x0"][rows])
        mse = np.square(generator.denoise(noise) - x0).mean() / x0.var()
        coded, again = generator.autoencode(x), generator.decode(noise)

        small = generator_of_view(opened[name].view, rows=EACH)
        rng = np.random.default_rng(args.seed)
        fresh = rng.standard_normal(
            (PROMPTS, EACH, *opened[name].view.shape), np.float32
        )
        conds = [small.condition(prompt) for prompt in prompts]
        ways: dict[str, Callable[..., np.ndarray]] = {"": small.decode}
        if small.samples_in_few_steps:
            ways["_few"] = small.decode_few
        found = []
        for suffix, decode in ways.items():
            drawn = np.stack(
                [decode(z, cond) for z, cond in zip(fresh, conds, strict=True)]
            )
            found.append(agreement(drawn.reshape(-1, *drawn.shape[2:]), labels))
            sheet = figures.sheet(drawn[:8])
            (args.out / f"samples_{name}{suffix}.png").write_bytes(sheet)
        few = f"{found[1]:.3f}" if len(found) > 1 else ""
        print(
            f"| {name} | {psnr(x, coded):.1f} dB | {psnr(x, again):.1f} dB | {mse:.4f} | "
            f"{found[0]:.3f} | {few} |",
            flush=True,
        )
        sheet = figures.sheet(
            np.stack([x[:8], coded[:8], again[:8]]), rows=["image", "VAE", "noise"]
        )
        (args.out / f"round_trip_{name}.png").write_bytes(sheet)
    print(
        f"\nAgreement: AUC of the pixel regressor's scores for the attributes of {PROMPTS} "
        f"prompts, {EACH} images each, mean of 20; painted faces: {ceiling:.3f}."
    )
    for i, prompt in enumerate(prompts[:8]):
        print(f"  row {i + 1} of the sheets: {prompt}")


def agreement(pixels: np.ndarray, labels: np.ndarray) -> float:
    """Mean AUC of the regressor's scores of uint8 images for what was asked for."""
    from une_jax import probes
    from une_jax.miniature import regressor

    said = regressor.apply(regressor.load(), jnp.asarray(pixels / np.float32(255)))
    auc = probes.evaluate(said.scores, jnp.asarray(labels)).auc
    return float(np.nanmean(np.asarray(auc)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    from une_jax import image_metrics

    unit = np.float32(1 / 255)
    return float(image_metrics.psnr(a * unit, b * unit).mean())


def views(opened, known, pixels: _Faces) -> None:
    """What is linear in every view, and how long it takes to make."""
    from une_jax import miniature
    from une_jax.cli.encoder import load_encoder
    from une_jax.cli.generator import generator_of_view
    from une_jax.cli.names import resolve
    from une_jax.report import alignment, latents, probing

    train, test = opened.split("train"), opened.split("test")
    rows = np.arange(len(opened.keys))
    scores, nuisance = np.asarray(known.scores), np.asarray(known.nuisance)
    print(
        f"\n| view | mean test AUC | R² to the 20 scores | R² to the 12 nuisances | "
        f"{len(rows)} images |\n|---|---:|---:|---:|---:|"
    )
    for name in probing.spaces(opened):
        probed = probing.probe_view(opened, name)
        auc = float(np.nanmean(np.asarray(probed.metrics.auc)))
        x, x_test = (latents.flat(opened[name][part]) for part in (train, test))
        predict = alignment.predictor(x, x_test)
        r2 = [
            float(alignment.r2(predict(y[train]), y[test]).mean())
            for y in (scores, nuisance)
        ]
        took = ""
        if probed.kind != "control":
            if name in miniature.GENERATORS:
                model = generator_of_view(opened[name].view, rows=256)
            else:
                model = load_encoder(resolve(name), rows=256)
            batch = pixels(model, rows)
            model.compute(batch[:64], rows[:64])  # compiles
            start = time.perf_counter()
            model.compute(batch, rows)
            took = f"{time.perf_counter() - start:.1f} s"
        print(
            f"| {name} | {auc:.3f} | {r2[0]:.2f} | {r2[1]:.2f} | {took} |", flush=True
        )
    print(
        f"\n{len(train)} train, {len(test)} test faces; times are warm, with the VAE."
    )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
