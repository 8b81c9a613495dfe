"""Train Asyrp's implicit function: an edit in the bottleneck that a text describes.

    python scripts/train_asyrp.py --source "a photo of a man" \\
        --target "a photo of a man, smiling" --out smile.safetensors

It learns from painted faces, or with ``--zoo ZOO`` from the noise of a NoiseZoo. The
generator's walk from each image's noise is edited by f_t (arXiv 2210.10960): at every
editing step the image predicted so far goes through the VAE's decoder and a CLIP, and f_t
is improved by the directional loss. Several ``--source`` and as many ``--target`` are ways
to say the same and are averaged. Killed runs go on from ``--runs``; other settings, models
or images begin anew. With ``--learnt FILE`` nothing is trained: that f_t is shown.

Written: f_t as safetensors with its settings in the header (``une_jax.asyrp_files``), and
beside it a picture of held-out images: the original (of painted ones), the image that the
unedited walk predicts at the last editing step, and the edit at each ``--strength``.
"""

import functools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.asyrp import source as sources  # noqa: E402
from scripts.asyrp.args import RESULT, Args  # noqa: E402
from scripts.miniature import loop, picture  # noqa: E402
from une_jax import asyrp, asyrp_files, asyrp_training, directional, hspace, parallel  # noqa: E402
from une_jax.cli import clip_judge as judges  # noqa: E402
from une_jax.cli import programs  # noqa: E402
from une_jax.cli.names import resolve  # noqa: E402
from une_jax.errors import UneError  # noqa: E402


def main(args: Args) -> None:
    n = args.images + args.held_out
    if args.zoo:
        found = sources.of_zoo(args.zoo, args.view, args.generator, n)
    else:
        found = sources.of_faces(args.generator or "mini-sd15", args.steps, n)
    run = Run(args, found, judges.load(resolve(args.judge)))
    f = run.learnt(args.learnt) if args.learnt else run.train()
    scores = run.show(f)
    if not args.learnt:
        asyrp_files.save(args.out, f, run.about() | {"held-out S_dir": scores})
    file = str(args.learnt or args.out)
    print(json.dumps({"held-out S_dir by strength": scores, "file": file}))


def hashes(found: sources.Source, judge: judges.Judge) -> dict[str, str | None]:
    """Of what the settings only name, and f_t depends on."""
    return {
        "generator sha256": found.generator.views[0].weights_sha256,
        "judge sha256": judge.loaded.weights_sha256,
        "zoo sha256": found.zoo,
    }


class Run:
    """One training: what is fixed in it, and its two programs."""

    def __init__(self, args: Args, found: sources.Source, judge: judges.Judge):
        self.args, self.found, self.judge = args, found, judge
        self.generator = found.generator
        self.frozen = sources.frozen(self.generator)
        self.halves = programs.halves(self.generator.sd.unet.apply)
        self.phases = hspace.phases(self.frozen.schedule, t_edit=args.t_edit)
        self.edits = int(self.phases.edit.sum())
        if not self.edits:
            raise UneError(f"--t-edit {args.t_edit} is above every timestep: nothing would be edited")  # fmt: skip
        self.texts = tuple(directional.said(judge.read(t)) for t in (args.source, args.target))  # fmt: skip
        self.weights = {"frozen": self.frozen, "judge": judge.params, "texts": self.texts}  # fmt: skip
        # The walk without edits does not depend on f: once for all images.
        watch = jax.jit(self._watch)
        parts = np.array_split(found.noise, -(-len(found.noise) // args.batch))
        self.clean = np.concatenate([watch(self.weights, jnp.asarray(x)) for x in parts])  # fmt: skip

    def _watch(self, weights: Any, x_T: jax.Array) -> jax.Array:
        """P of the unedited walk's m editing steps and of its last, (b, m + 1, ...)."""
        fixed = weights["frozen"]
        walk = asyrp_training.watch(self.halves, fixed.unet, x_T, fixed.schedule, fixed.cond)  # fmt: skip
        return jnp.concatenate([walk.image[:, : self.edits], walk.image[:, -1:]], 1)

    def paint(self, weights: Any, x0: jax.Array) -> jax.Array:
        return sources.paint(self.generator, weights["frozen"].vae, x0)

    def losses(self, weights: Any, edited: jax.Array, clean: jax.Array, i: jax.Array) -> directional.Losses:  # fmt: skip
        """Of latents predicted at editing step i; ``clean`` is a row of ``self.clean``."""
        judge, args = weights["judge"], self.args
        image, source = (self.paint(weights, x) for x in (edited, clean[:, i]))
        whole = source if args.form == "paper" else self.paint(weights, clean[:, -1])
        before, after = (self.judge.look(judge, x) for x in (whole, image))
        said, shall = weights["texts"]
        return directional.loss(
            0.5 * image, 0.5 * source, after, before, said, shall,  # black to white is 1
            form=args.form, weights=directional.Weights(args.clip, args.recon),
        )  # fmt: skip

    def learnt(self, file: Path) -> asyrp.Params:
        """f_t of a file, which has to be of this generator and these steps."""
        stored = asyrp_files.load(file)
        t = np.asarray(self.frozen.schedule.sampling.t)
        asyrp_files.require(stored, self.generator.views[0], t)
        return stored.params

    def train(self) -> asyrp.Params:
        """f_t after all iterations; prints how the loss goes."""
        args = self.args
        updates = args.iterations * self.edits
        rate = optax.cosine_decay_schedule(args.rate, updates)
        tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

        def update(slope, state, what):
            steps, state = tx.update(slope, state, what)
            return optax.apply_updates(what, steps), state

        @jax.jit
        def walk(weights, state, batch):
            fixed = weights["frozen"]
            x_T, clean = batch
            ones = jnp.ones(len(fixed.schedule.sampling.t))

            def loss(image, i):
                out = self.losses(weights, image, clean, i)
                kinds = ("clip", "recon", "cosine")
                return out.total.mean(), {k: getattr(out, k).mean() for k in kinds}

            out = asyrp_training.learn(
                self.halves, fixed.unet, x_T, fixed.schedule, fixed.cond,
                shift=lambda f, h, at: asyrp.implicit(asyrp.Implicit(f, ones), h, at),
                what=state[0], state=state[1], loss=loss, update=update, steps=self.edits,
            )  # fmt: skip
            return (out.what, out.state), jax.tree.map(jnp.mean, out.metrics)

        def told(state, batch, step):
            state, metrics = walk(self.weights, state, batch)
            numbers = "  ".join(f"{k} {float(v):.4f}" for k, v in metrics.items())
            print(f"iteration {step + 1}/{args.iterations}  {numbers}", flush=True)
            return state, metrics

        def batch(key):
            rows = jax.random.choice(key, args.images, (args.batch,), replace=False)
            return tuple(jnp.asarray(x[np.asarray(rows)]) for x in (self.found.noise, self.clean))  # fmt: skip

        f = asyrp.init(jax.random.key(args.seed), self.channels, kind=args.kind)
        # Placed as the walk returns it, or the second walk would be compiled anew.
        state = parallel.replicate((f, tx.init(f)), self.generator.mesh)
        return loop.follow(
            args.folder(hashes(self.found, self.judge)), state, told, batch,
            steps=args.iterations, seed=args.seed, save_every=max(1, args.iterations // 10),
        )[0]  # fmt: skip

    @property
    def channels(self) -> int:
        fixed, x = self.frozen, jnp.asarray(self.found.noise[:1])
        t = fixed.schedule.sampling.t[:1]
        return jax.eval_shape(self.halves.down, fixed.unet, x, t, fixed.cond)[0].shape[-1]  # fmt: skip

    def show(self, f: asyrp.Params) -> dict[str, float]:
        """Writes the picture of held-out images; S_dir at each strength."""
        args, rows = self.args, slice(self.args.images, None)
        x_T, clean = (jnp.asarray(x[rows]) for x in (self.found.noise, self.clean))
        if not len(x_T):
            return {}

        @jax.jit
        def edited(weights, f, strength):
            fixed = weights["frozen"]
            n = len(fixed.schedule.sampling.t)
            what = asyrp.Implicit(f, asyrp.weights(strength, n, trained=n))
            x0 = hspace.sample(
                self.halves, fixed.unet, x_T, fixed.schedule, fixed.cond,
                shift=asyrp.implicit, what=what, phases=self.phases,
            )  # fmt: skip
            return self.paint(weights, x0)

        @jax.jit
        def score(weights, before, after):
            look = functools.partial(self.judge.look, weights["judge"])
            said, shall = weights["texts"]  # of length 1
            return directional.s_dir(look(before), look(after), shall - said).mean()

        made = [edited(self.weights, f, jnp.float32(s)) for s in args.strength]
        still = edited(self.weights, f, jnp.float32(0))
        scores = [float(score(self.weights, still, image)) for image in made]
        first = [] if self.found.images is None else [self.found.images[rows]]
        first.append(np.asarray(self.paint(self.weights, clean[:, self.edits - 1])))
        picture.grid(args.out.with_suffix(".png"), *first, *made)  # fmt: skip
        return {f"{s:g}": round(v, 4) for s, v in zip(args.strength, scores, strict=True)}  # fmt: skip

    def about(self) -> dict[str, Any]:
        """The settings, as the file's header has them."""
        args, view = self.args, self.generator.views[0]
        return {
            **{k: v for k, v in asdict(args).items() if k in RESULT and k != "zoo"},
            "view": asdict(view),
            "timesteps": np.asarray(self.frozen.schedule.sampling.t).tolist(),
            **hashes(self.found, self.judge),
            "text cosine": round(float(directional.text_cosine(*self.texts)), 6),
        }


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
