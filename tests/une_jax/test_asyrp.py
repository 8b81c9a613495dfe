"""Asyrp's implicit function and its training, on a network that is cut in two by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import asyrp, asyrp_files, asyrp_training, ddim, directional, hspace
from une_jax.errors import UneError
from une_jax.schedule import Schedule

N, EDITS, B, C = 5, 3, 3, 8
SHAPE = (B, 4, 4, 2)


def down(params, x, t, cond):
    """h is a pooled x in C channels."""
    b, h, w, c = x.shape
    pooled = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    return jnp.tanh(pooled @ params["in"]), (x, t)


def up(params, h, rest):
    x, t = rest
    grown = jnp.repeat(jnp.repeat(h @ params["out"], 2, 1), 2, 2)
    return (grown + 0.5 * x) * (1 - t[:, None, None, None] / 2000)


HALVES = hspace.Halves(down, up)
PARAMS = {
    "in": jax.random.normal(jax.random.key(8), (2, C)),
    "out": 0.4 * jax.random.normal(jax.random.key(9), (C, 2)),
}


@pytest.fixture
def schedule():
    return Schedule.from_config(SD, steps=N)


@pytest.fixture
def x_T():
    return jax.random.normal(jax.random.key(0), SHAPE)


@pytest.fixture(params=asyrp.KINDS)
def f(request):
    return asyrp.init(jax.random.key(1), C, kind=request.param)


def edit(x_T, schedule, f, weight, **how):
    what = asyrp.Implicit(f, weight)
    how = {"shift": asyrp.implicit, "what": what, **how}
    return hspace.sample(HALVES, PARAMS, x_T, schedule, **how)


def plain(x_T, schedule):
    whole = lambda p, x, t, c: up(p, *down(p, x, t, c))  # noqa: E731
    return ddim.sample(whole, PARAMS, x_T, schedule)


def written_out(f, h, t):
    """The function as the authors' layers make it, in numpy and one image at a time."""
    f = {k: np.asarray(v, np.float64) for k, v in f.items()}
    swish = lambda x: x / (1 + np.exp(-x))  # noqa: E731
    half = C // 2
    angles = t * np.exp(-np.log(10000) * np.arange(half) / (half - 1))
    time = swish(np.concatenate([np.sin(angles), np.cos(angles)]))
    adm = "norm_in.weight" in f

    def norm(x, name):
        pairs = x.reshape(*x.shape[:2], C // 2, 2)
        centred = pairs - pairs.mean((0, 1, 3), keepdims=True)
        variance = pairs.var((0, 1, 3), keepdims=True) + (1e-5 if adm else 1e-6)
        scaled = (centred / np.sqrt(variance)).reshape(x.shape)
        return scaled * f[f"{name}.weight"] + f[f"{name}.bias"]

    out = []
    for x in np.asarray(h, np.float64):
        x = swish(norm(x, "norm_in")) if adm else x
        x = x @ f["in.weight"] + f["in.bias"]
        x = x + time @ f["time.weight"] + f["time.bias"]
        out.append(swish(norm(x, "norm")) @ f["out.weight"] + f["out.bias"])
    return np.stack(out)


def test_both_kinds_are_the_authors_layers(f):
    h = jax.random.normal(jax.random.key(2), (2, 3, 3, C))
    f = jax.tree.map(lambda w: w + 0.1, f)  # or the norms' weights would not count
    found = asyrp.move(f, h, jnp.int32(321))
    np.testing.assert_allclose(found, written_out(f, h, 321), rtol=1e-4, atol=1e-4)
    assert np.abs(found - asyrp.move(f, h, jnp.int32(20))).max() > 1e-3


def test_first_weights_are_torchs():
    f = asyrp.init(jax.random.key(0), 64)
    for name in ("in", "time", "out"):
        w = np.asarray(f[f"{name}.weight"])
        assert np.abs(w).max() <= 1 / 8 and w.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)  # fmt: skip


def test_without_weight_or_last_layer_it_is_ddim(f, schedule, x_T):
    wanted = plain(x_T, schedule)
    still = edit(x_T, schedule, f, jnp.zeros(N))
    np.testing.assert_allclose(still, wanted, rtol=1e-5, atol=1e-5)
    silent = f | {k: jnp.zeros_like(f[k]) for k in ("out.weight", "out.bias")}
    silenced = edit(x_T, schedule, silent, jnp.ones(N))
    np.testing.assert_allclose(silenced, wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(edit(x_T, schedule, f, jnp.ones(N)) - wanted).max() > 0.01


def test_strengths_under_vmap_and_several_functions_at_once(schedule, x_T):
    fs = [asyrp.init(jax.random.key(i), C) for i in range(2)]
    strengths = jnp.array([-1.0, 0.5])
    grid = jax.jit(
        jax.vmap(
            lambda s: edit(x_T, schedule, fs[0], asyrp.weights(s, N, trained=2 * N))
        )
    )(strengths)
    for s, images in zip(strengths, grid, strict=True):
        wanted = edit(x_T, schedule, fs[0], jnp.full(N, 2 * s))
        np.testing.assert_allclose(images, wanted, rtol=1e-4, atol=1e-4)
    both = jax.tree.map(lambda *p: jnp.stack(p), *fs)
    h, at = jnp.ones((B, 2, 2, C)), hspace.At(jnp.int32(1), jnp.int32(700))
    weight = jnp.array([[0.0, 2.0], [0.0, -1.0]])
    found = asyrp.implicit(asyrp.Implicit(both, weight), h, at)
    a, b = (asyrp.move(f, h, at.t) for f in fs)
    np.testing.assert_allclose(found, h + (2 * a - b) / np.sqrt(2), rtol=1e-5, atol=1e-5)  # fmt: skip


def test_the_watched_walk_is_ddim(schedule, x_T):
    seen = asyrp_training.watch(HALVES, PARAMS, x_T, schedule)
    assert seen.image.shape == (B, N, *SHAPE[1:])
    np.testing.assert_array_equal(seen.x[:, 0], x_T)
    row = jax.tree.map(lambda leaf: leaf[-1], schedule.sampling)
    out = up(PARAMS, *down(PARAMS, seen.x[:, -1], jnp.full(B, row.t), None))
    image = (seen.x[:, -1] - np.sqrt(1 - row.alpha_from) * out) / np.sqrt(row.alpha_from)  # fmt: skip
    np.testing.assert_allclose(seen.image[:, -1], image, rtol=1e-4, atol=1e-5)
    again = row.c_x * seen.x[:, -1] + row.c_out * out
    np.testing.assert_allclose(again, plain(x_T, schedule), rtol=1e-5, atol=1e-5)


def learn(x_T, schedule, what, *, shift, loss, rate=0.0, steps=EDITS, state=None):
    def descend(slope, state, what):
        return jax.tree.map(lambda w, s: w - rate * s, what, slope), state

    return asyrp_training.learn(
        HALVES, PARAMS, x_T, schedule,
        shift=shift, what=what, state=state, loss=loss, update=descend, steps=steps,
    )  # fmt: skip


def whole(f, h, at):
    return asyrp.implicit(asyrp.Implicit(f, jnp.ones(N)), h, at)


def until(schedule, i):
    """The schedule's steps to i, the last of which arrives at the image itself."""
    rows = jax.tree.map(lambda leaf: leaf[: i + 1], schedule.sampling)
    a = rows.alpha_from[i]
    rows = rows._replace(
        alpha_to=rows.alpha_to.at[i].set(1.0),
        c_x=rows.c_x.at[i].set(1 / jnp.sqrt(a)),
        c_out=rows.c_out.at[i].set(-jnp.sqrt(1 - a) / jnp.sqrt(a)),
    )
    return dataclasses.replace(schedule, down=rows)


def test_training_walks_where_editing_walks(f, schedule, x_T):
    """At rate 0 every step's P is the image of the edited walk that ends there."""
    seen = lambda image, i: (image.mean(), {"image": image, "at": i})  # noqa: E731
    out = learn(x_T, schedule, f, shift=whole, loss=seen, steps=N)
    assert out.metrics["loss"].shape == (N,)
    assert out.metrics["at"].tolist() == list(range(N))
    unedited = asyrp_training.watch(HALVES, PARAMS, x_T, schedule)
    for i, image in enumerate(out.metrics["image"]):
        edited = edit(x_T, until(schedule, i), f, jnp.ones(i + 1))
        np.testing.assert_allclose(image, edited, rtol=1e-4, atol=1e-4)
        # Neither the walk without edits, nor its states under the moved network.
        assert np.abs(edited - unedited.image[:, i]).max() > 0.01
        x, t = unedited.x[:, i], schedule.sampling.t[i]
        h, rest = down(PARAMS, x, jnp.full(B, t), None)
        row = jax.tree.map(lambda leaf, i=i: leaf[i], schedule.sampling)
        astray = asyrp_training.predicted(
            x, row, up(PARAMS, h + asyrp.move(f, h, t), rest)
        )
        assert i == 0 or np.abs(edited - astray).max() > 0.01
    # P of the first step by hand.
    a, t = schedule.sampling.alpha_from[0], schedule.sampling.t[0]
    h, rest = down(PARAMS, x_T, jnp.full(B, t), None)
    moved = up(PARAMS, h + asyrp.move(f, h, t), rest)
    image = (x_T - np.sqrt(1 - a) * moved) / np.sqrt(a)
    np.testing.assert_allclose(out.metrics["image"][0], image, rtol=1e-4, atol=1e-4)


def test_training_and_editing_share_one_step(monkeypatch, f, schedule, x_T):
    """What moves h and what steps are hspace's own, and no copies of them."""
    used = []
    for name in ("moved", "step", "raw"):
        own = getattr(hspace, name)
        monkeypatch.setattr(
            hspace, name, lambda *a, own=own, name=name: (used.append(name), own(*a))[1]
        )
    how = {"shift": whole, "what": f, "steps": EDITS}
    asyrp_training.moves(HALVES, PARAMS, x_T, schedule, **how)
    assert set(used) == {"moved", "step", "raw"}
    used.clear()
    learn(x_T, schedule, f, shift=whole, loss=lambda image, i: (image.mean(), {}))
    assert set(used) == {"moved", "step", "raw"}
    used.clear()
    asyrp_training.watch(HALVES, PARAMS, x_T, schedule)
    assert set(used) == {"step", "raw"}


def test_the_gradient_reaches_every_weight(f, schedule, x_T):
    far = lambda image, i: (jnp.sum(jnp.sin(image)), {})  # noqa: E731
    out = learn(x_T, schedule, f, shift=whole, loss=far, rate=1e-3)
    for name, w in f.items():
        assert np.abs(out.what[name] - w).max() > 0, name


def test_training_goes_where_the_text_goes(schedule, x_T):
    """A linear judge and a random direction: the loss falls, S_dir rises, on new noise."""
    judge = jax.random.normal(jax.random.key(3), (32, 6)) / 6
    source, target = jax.random.normal(jax.random.key(4), (2, 6))
    look = lambda image: image.reshape(len(image), -1) @ judge  # noqa: E731
    clean = asyrp_training.watch(HALVES, PARAMS, x_T, schedule, steps=EDITS).image

    def loss(image, i):
        out = directional.loss(
            image, clean[:, i], look(image), look(clean[:, i]), source, target,
            weights=directional.Weights(1.0, 0.01),
        )  # fmt: skip
        return out.total.mean(), {"cosine": out.cosine.mean()}

    @jax.jit
    def walk(f):
        return learn(x_T, schedule, f, shift=whole, loss=loss, rate=0.1)

    f, seen = asyrp.init(jax.random.key(5), C), []
    for _ in range(40):
        out = walk(f)
        f = out.what
        seen.append((float(out.metrics["loss"].mean()), float(out.metrics["cosine"].mean())))  # fmt: skip
    end = np.mean(seen[-5:], 0)
    assert end[0] < 0.6 * seen[0][0] and end[1] > seen[0][1] + 0.3, seen[::8]

    new = jax.random.normal(jax.random.key(6), SHAPE)
    phases = hspace.phases(schedule, t_edit=int(schedule.sampling.t[EDITS - 1]))
    text = directional.unit(target) - directional.unit(source)
    goes = [
        directional.s_dir(look(plain(new, schedule)), look(image), text).mean()
        for image in (
            edit(new, schedule, f, jnp.ones(N), phases=phases),
            edit(new, schedule, asyrp.init(jax.random.key(5), C), jnp.ones(N), phases=phases),
        )
    ]  # fmt: skip
    assert goes[0] > goes[1] + 0.2, goes


def test_a_free_table_learns_by_the_same_walk(schedule, x_T):
    bright = lambda image, i: (-image.mean(), {})  # noqa: E731
    start = jnp.zeros((N, 2, 2, C))
    out = learn(x_T, schedule, start, shift=hspace.add, loss=bright, rate=1.0)
    assert (np.abs(np.asarray(out.what)).max((1, 2, 3)) > 0).tolist() == [True] * EDITS + [False] * (N - EDITS)  # fmt: skip


def test_mean_and_global_moves(f, schedule, x_T):
    what = asyrp.Implicit(f, jnp.ones(N))
    how = {"shift": asyrp.implicit, "what": what, "steps": EDITS}
    made = asyrp_training.moves(HALVES, PARAMS, x_T, schedule, **how)
    assert made.shape == (B, N, 2, 2, C)
    h = down(PARAMS, x_T, jnp.full(B, schedule.sampling.t[0]), None)[0]
    first = asyrp.move(f, h, schedule.sampling.t[0])
    np.testing.assert_allclose(made[:, 0], first, rtol=1e-4, atol=1e-5)
    assert not made[:, EDITS:].any()
    # The table that is every image's own moves the walk as f did.
    own = jnp.moveaxis(made, 1, 0)
    phases = hspace.phases(schedule, t_edit=int(schedule.sampling.t[EDITS - 1]))
    by_f = edit(x_T, schedule, f, jnp.ones(N), phases=phases)
    by_table = hspace.sample(HALVES, PARAMS, x_T, schedule, shift=hspace.add, what=own)
    np.testing.assert_allclose(by_table, by_f, rtol=1e-4, atol=1e-4)

    mean, everywhere = asyrp.mean_move(made), asyrp.global_move(made, phases.edit)
    np.testing.assert_allclose(mean, np.asarray(made).mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(everywhere.sum(0), mean.sum(0), rtol=1e-4, atol=1e-5)
    assert not everywhere[EDITS:].any()
    np.testing.assert_array_equal(everywhere[0], everywhere[EDITS - 1])


def test_files_come_back_and_others_are_refused(f, tmp_path):
    file = tmp_path / "f.safetensors"
    asyrp_files.save(file, f, {"steps": 5, "source": ["a", "b"]})
    again = asyrp_files.load(file)
    assert again.about == {"steps": 5, "source": ["a", "b"]}
    jax.tree.map(np.testing.assert_array_equal, again.params, f)
    with pytest.raises(UneError, match="in.bias is not finite"):
        asyrp_files.save(file, f | {"in.bias": jnp.full(C, jnp.nan)}, {})
    jax.tree.map(np.testing.assert_array_equal, asyrp_files.load(file).params, f)
    file.write_bytes(b"nothing")
    with pytest.raises(UneError, match="is no file of Asyrp's"):
        asyrp_files.load(file)
    with pytest.raises(UneError, match="there is no file"):
        asyrp_files.load(tmp_path / "absent")
