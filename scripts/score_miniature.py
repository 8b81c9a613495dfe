"""Score the shipped miniature on faces that it was not trained on; prints Markdown.

    python scripts/score_miniature.py --n 2000 --work runs/score

Builds a NoiseZoo of n faces (it goes on if there is one in ``--work``), then measures
VAE and round-trip error on its test rows and fits the probes on its train rows.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True, kw_only=True)
class Args:
    """Score the shipped miniature."""

    work: Path = ROOT / "runs" / "score"
    """folder for the faces and the zoo"""
    n: int = 2000
    """how many faces"""
    seed: int = 7
    """which stream of faces"""
    steps: int = 50
    """DDIM steps"""
    decoded: int = 128
    """how many test rows to decode"""


def main(args: Args) -> None:
    from une_jax import images, miniature, zoo
    from une_jax.cli.build import Build
    from une_jax.cli.faces import ATTRIBUTES, IMAGES, Faces
    from une_jax.cli.generator import generator_of_view
    from une_jax.cli.main import start_jax
    from une_jax.cli.report import read_truth
    from une_jax.report import probing

    start_jax()
    faces, folder = args.work / "faces", args.work / "zoo"
    Faces(out=faces, n=args.n, seed=args.seed).run()
    Build(
        images=faces / IMAGES,
        attributes=faces / ATTRIBUTES,
        generator=miniature.GENERATORS,
        encoder=miniature.ENCODERS,
        steps=args.steps,
        controls=True,
        out=folder,
    ).run()
    opened = zoo.open(folder)
    test = opened.split("test")
    rows = test[: args.decoded]

    for name in miniature.GENERATORS:
        view = opened[name].view
        generator = generator_of_view(view)
        pixels = np.stack(
            [
                generator.prepare(images.decode(faces / IMAGES / opened.keys[i]))
                for i in rows
            ]
        )
        again = generator.decode(opened[name][rows])
        coded = generator.autoencode(pixels)
        x0 = np.asarray(opened[f"{name}.x0"][rows])
        back = generator.denoise(opened[name][rows])
        mse = np.square(back - x0).mean() / x0.var()
        unit = np.float32(1 / 255)
        print(f"\n| {name}, {len(rows)} held-out faces | |\n|---|---|")
        print(
            f"| VAE PSNR | {images.psnr(pixels * unit, coded * unit).mean():.1f} dB |"
        )
        print(
            f"| image -> noise -> image, {args.steps} steps, PSNR | "
            f"{images.psnr(pixels * unit, again * unit).mean():.1f} dB |"
        )
        print(f"| the same in latents, MSE / variance | {mse:.4f} |")

    probed = {v: probing.probe_view(opened, v) for v in opened.views}
    truth = read_truth(faces / TRUTH, opened)[test]
    r2 = probing.truth_r2(probed[miniature.GENERATORS[0]].scores, truth)
    print(f"\n{len(opened.split('train'))} train, {len(test)} test faces; test AUC:\n")
    print("| attribute | base rate | " + " | ".join(probed) + " | R² to truth |")
    print("|---|" + "---:|" * (len(probed) + 2))
    table = probing.table(opened.attribute_names, list(probed.values()))
    for row, value in zip(table, [*r2, r2.mean()], strict=True):
        cells = " | ".join(f"{row[f'{v} auc']:.3f}" for v in probed)
        print(
            f"| {row['attribute']} | {row['base_rate']:.3f} | {cells} | {value:.2f} |"
        )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
