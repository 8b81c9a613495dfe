"""One training loop for every member: optax, orbax checkpoints, resumes by itself."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp


class State(NamedTuple):
    params: Any
    average: Any  # exponential moving average: what is shipped
    opt: Any


LossFn = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def train(
    folder: Path,
    params: Any,
    loss_fn: LossFn,
    batch_fn: Callable[[jax.Array], Any],
    *,
    steps: int,
    rate: float,
    seed: int = 0,
    warmup: int = 200,
    decay: float = 0.998,
    save_every: int = 200,
    at_save: Callable[[int, Any], None] | None = None,
) -> Any:
    """Minimise ``loss_fn(params, average, batch, key) -> (loss, metrics)``.

    Returns the moving average, which is also a teacher for losses that need one.
    ``batch_fn(key)`` draws a batch on the host. Killed runs go on from ``folder``.
    ``at_save(step, average)`` is called after each save: pictures, snapshots.
    """
    warmup = min(warmup, steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0, rate, warmup, steps, rate / 100)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.99, weight_decay=1e-4),
    )

    @jax.jit
    def update(state, batch, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.average, batch, key
        )
        updates, opt = tx.update(grads, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        keep = jnp.minimum(decay, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda a, p: keep * a + (1 - keep) * p, state.average, params
        )
        return State(params, average, opt), metrics

    state = follow(
        folder,
        State(params, params, tx.init(params)),
        update,
        batch_fn,
        steps=steps,
        seed=seed,
        save_every=save_every,
        at_save=at_save and (lambda step, state: at_save(step, state.average)),
    )
    return state.average


def follow(
    folder: Path,
    state: Any,
    update: Callable[[Any, Any, int], tuple[Any, dict[str, jax.Array]]],
    batch_fn: Callable[[jax.Array], Any],
    *,
    steps: int,
    seed: int,
    save_every: int,
    at_save: Callable[[int, Any], None] | None = None,
) -> Any:
    """``update(state, batch, step) -> (state, metrics)`` until ``steps``; the last state.

    Killed runs go on from ``folder``.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        first = manager.latest_step() or 0
        if first:
            restore = ocp.args.StandardRestore(state)
            state = manager.restore(first, args=restore)
        start = time.perf_counter()
        for step in range(first, steps):
            batch = batch_fn(jax.random.fold_in(jax.random.key(seed + 1), step))
            state, metrics = update(state, batch, step)
            done = step + 1
            if done % 50 == 0 or done == steps:
                rate_s = (time.perf_counter() - start) / (done - first)
                shown = "  ".join(f"{k} {float(v):.4f}" for k, v in metrics.items())
                left = rate_s * (steps - done) / 60
                print(f"step {done}/{steps}  {shown}  {rate_s:.3f} s/step  {left:.0f} min left", flush=True)  # fmt: skip
            if done % save_every == 0 or done == steps:
                manager.save(done, args=ocp.args.StandardSave(state))
                if at_save:
                    at_save(done, state)
        manager.wait_until_finished()
    return state
