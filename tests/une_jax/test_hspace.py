"""h-space sampling: identities, the paper's gains, phases, guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sd_schedule import SD

from une_jax import ddim, flops, guidance, hspace
from une_jax.errors import UneError
from une_jax.schedule import Schedule, alphas_cumprod_of

LINEAR = {"beta_schedule": "linear", "steps_offset": 1, "set_alpha_to_one": False}
N, SHAPE, H = 6, (3, 4, 4, 2), (2, 2, 2)


def down(params, x, t, cond):
    """h is a pooled x; the condition scales it."""
    b, h, w, c = x.shape
    pooled = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    cond = jnp.ones(1) if cond is None else cond
    scale = jnp.repeat(cond, b // len(cond))[:, None, None, None]
    return params["in"] * scale * pooled, (x, t)


def up(params, h, rest):
    x, t = rest
    grown = jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)
    return jnp.tanh(grown + params["skip"] * x) * (1 - t[:, None, None, None] / 2000)


HALVES = hspace.Halves(down, up)
PARAMS = {"in": jnp.float32(0.7), "skip": jnp.float32(0.3)}


def whole(params, x, t, cond):
    return up(params, *down(params, x, t, cond))


@pytest.fixture
def schedule():
    return Schedule.from_config(SD, steps=N)


@pytest.fixture
def x_T():
    return jax.random.normal(jax.random.key(0), SHAPE)


@pytest.fixture
def moves():
    return 0.3 * jax.random.normal(jax.random.key(1), (N, *H))


def keys(n, seed=2):
    return jax.random.split(jax.random.key(seed), n)


def edit(x_T, schedule, moves, *, halves=HALVES, cond=None, **how):
    how = {"shift": hspace.add, "what": moves, **how}
    return hspace.sample(halves, PARAMS, x_T, schedule, cond, **how)


@pytest.mark.parametrize("symmetric", (False, True))
def test_no_move_is_ddim(schedule, x_T, moves, symmetric):
    plain = ddim.sample(whole, PARAMS, x_T, schedule)
    still = edit(x_T, schedule, 0 * moves, symmetric=symmetric)
    np.testing.assert_allclose(still, plain, rtol=1e-5, atol=1e-5)
    moved = edit(x_T, schedule, moves, symmetric=symmetric)
    assert np.abs(moved - plain).max() > 0.05


@pytest.mark.parametrize(("symmetric", "ways_up"), [(True, 1), (False, 2)])
def test_a_step_has_the_way_up_no_more_often_than_it_must(schedule, x_T, symmetric, ways_up):  # fmt: skip
    """In the program, which is compiled whole, and of which a branch is run."""

    def product(params, h, rest):
        return up(params, h, rest) @ params["wide"]

    wide = jnp.ones((SHAPE[-1], SHAPE[-1]))
    halves = hspace.Halves(down, product)

    def walk(params, what):
        return hspace.sample(halves, params, x_T, schedule, shift=hspace.add, what=what, symmetric=symmetric)  # fmt: skip

    args = ({**PARAMS, "wide": wide}, jnp.zeros((N, *H)))
    assert flops.count(walk, *args) == ways_up * N * flops.count(jnp.matmul, x_T, wide)
    assert str(jax.make_jaxpr(walk)(*args)).count("dot_general[") == ways_up


def test_symmetric_is_ddim_of_the_moved_network(schedule, x_T, moves):
    """Haas et al.: one network, which is moved; checked against DDIM itself."""

    def network(params, x, t, cond):
        h, rest = down(params, x, t, cond)
        i = jnp.argmax(schedule.sampling.t == t[0])
        return up(params, h + moves[i][None], rest)

    wanted = ddim.sample(network, PARAMS, x_T, schedule)
    found = edit(x_T, schedule, moves, symmetric=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_asymmetric_is_the_papers_equation(schedule, x_T, moves):
    """Asyrp, Eq. 7, written out in float64 with numpy."""
    x, rows = np.asarray(x_T, np.float64), schedule.sampling
    for i in range(N):
        a, a_to = float(rows.alpha_from[i]), float(rows.alpha_to[i])
        t = jnp.full(len(x), rows.t[i])
        h, rest = down(PARAMS, jnp.asarray(x, jnp.float32), t, None)
        eps = np.asarray(up(PARAMS, h, rest), np.float64)
        eps_moved = np.asarray(up(PARAMS, h + moves[i][None], rest), np.float64)
        image = (x - np.sqrt(1 - a) * eps_moved) / np.sqrt(a)
        x = np.sqrt(a_to) * image + np.sqrt(1 - a_to) * eps
    np.testing.assert_allclose(edit(x_T, schedule, moves), x, rtol=1e-5, atol=1e-5)


# specs/asyrp.md, section 1: grid, timestep, symmetric gain, asymmetric gain.
FIXTURES = [
    (LINEAR, 1000, 501, -0.00529, -0.96560),
    (LINEAR, 50, 501, -0.10926, -1.06112),
    (SD, 50, 501, -0.05744, -0.89273),
]


def test_at_alpha_zero_nothing_answers_a_shift_of_eps():
    config = {**SD, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    schedule = Schedule.from_config({**config, "prediction_type": "v_prediction"}, steps=4)  # fmt: skip
    assert schedule.sampling.alpha_from[0] == 0
    for gain in hspace.gains(schedule):
        assert gain[0] == 0 and bool((gain[1:] < 0).all())


@pytest.mark.parametrize(("config", "steps", "t", "symmetric", "asymmetric"), FIXTURES)
def test_gains(config, steps, t, symmetric, asymmetric):
    """Theorem 1, as the table says it and as a walk of a network that is only h does."""
    # 1,000 steps cannot start at 1.
    config = {**config, "steps_offset": 1 if steps < 1000 else 0}
    schedule = Schedule.from_config(config, steps=steps)
    at = schedule.sampling.t.tolist().index(t)
    for gain, wanted in zip(
        hspace.gains(schedule), (symmetric, asymmetric), strict=True
    ):
        assert gain[at] == pytest.approx(wanted, abs=2e-5)
    only = Schedule(
        **{
            **vars(schedule),
            "down": jax.tree.map(lambda c: c[at : at + 1], schedule.down),
        }
    )
    flat = hspace.Halves(lambda p, x, t, c: (0 * x, ()), lambda p, h, rest: h)
    x, move = jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1))
    how = {"shift": hspace.add}
    still = hspace.sample(flat, None, x, only, what=0 * move, **how)
    for sides, wanted in ((True, symmetric), (False, asymmetric)):
        moved = hspace.sample(flat, None, x, only, what=move, symmetric=sides, **how)
        assert (moved - still).item() == pytest.approx(wanted, abs=2e-5)


def test_the_way_down_is_walked_once_and_the_way_up_twice_where_it_edits(x_T, moves):
    schedule = Schedule.from_config(SD, steps=N)
    calls = {"down": 0, "up": 0}

    def counted(name, half):
        def run(*args):
            jax.debug.callback(lambda: calls.update({name: calls[name] + 1}))
            return half(*args)

        return run

    halves = hspace.Halves(counted("down", down), counted("up", up))
    t_edit = int(schedule.sampling.t[1])
    for symmetric, ups in ((False, N + 2), (True, N)):
        calls.update(down=0, up=0)
        edit(
            x_T,
            schedule,
            moves,
            halves=halves,
            symmetric=symmetric,
            phases=hspace.phases(schedule, t_edit=t_edit),
        )
        jax.effects_barrier()
        assert calls == {"down": N, "up": ups}


def test_moves_count_only_from_t_edit_up(schedule, x_T, moves):
    t_edit = int(schedule.sampling.t[2])
    phases = hspace.phases(schedule, t_edit=t_edit)
    assert phases.edit.tolist() == [True] * 3 + [False] * (N - 3)
    late = moves.at[:3].set(0.0)
    plain = ddim.sample(whole, PARAMS, x_T, schedule)
    kept = edit(x_T, schedule, late, phases=phases)
    np.testing.assert_allclose(kept, plain, rtol=1e-5, atol=1e-5)
    early = moves.at[3:].set(9.0)
    np.testing.assert_array_equal(
        edit(x_T, schedule, early, phases=phases),
        edit(x_T, schedule, moves, phases=phases),
    )


def test_boosting_is_noise_of_each_images_own_key(schedule, x_T, moves):
    phases = hspace.phases(schedule, t_edit=600, t_boost=300)
    boosted = edit(x_T, schedule, moves, phases=phases, keys=keys(3))
    plain = edit(x_T, schedule, moves, phases=hspace.phases(schedule, t_edit=600))
    assert np.abs(boosted - plain).max() > 0.05
    again = edit(x_T[1:2], schedule, moves, phases=phases, keys=keys(3)[1:2])
    np.testing.assert_allclose(again, boosted[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", (0.3, 1.0))
def test_noisy_steps_have_the_variance_of_ddims_equation_12(eta):
    """White data, whose optimal network is linear: the variance follows by hand."""
    alphas = jnp.asarray(alphas_cumprod_of(SD), jnp.float32)
    white = hspace.Halves(
        lambda p, x, t, c: (x * jnp.sqrt(1 - alphas[t])[:, None, None, None], ()),
        lambda p, h, rest: h,
    )
    schedule = Schedule.from_config(SD, steps=20)
    x_T = jax.random.normal(jax.random.key(0), (8, 32, 32, 4))
    phases = hspace.phases(schedule, eta=eta)
    out = hspace.collect(white, None, x_T, schedule, phases=phases, keys=keys(8))
    variance = 1.0
    rows = schedule.sampling
    for a, a_to in zip(
        np.asarray(rows.alpha_from, float),
        np.asarray(rows.alpha_to, float),
        strict=True,
    ):
        sigma = eta * np.sqrt((1 - a_to) / (1 - a)) * np.sqrt(1 - a / a_to)
        gain = np.sqrt(a_to * a) + np.sqrt(1 - a_to - sigma**2) * np.sqrt(1 - a)
        variance = gain**2 * variance + sigma**2
    assert float(out.x0.var()) == pytest.approx(variance, rel=0.02)


def test_phases_that_overlap_are_refused(schedule):
    with pytest.raises(UneError, match="t_boost 400 is above t_edit 300"):
        hspace.phases(schedule, t_edit=300, t_boost=400)
    with pytest.raises(UneError, match="eta is 1.5"):
        hspace.phases(schedule, eta=1.5)


def test_boosted_steps_do_not_edit(schedule):
    found = hspace.phases(schedule, t_boost=400)
    assert not (found.edit & (found.eta > 0)).any() and found.edit.sum() == 3


def test_noise_without_keys_is_refused(schedule, x_T, moves):
    """Without, a step would lose the noise that it makes room for."""
    phases = hspace.phases(schedule, t_boost=400)
    with pytest.raises(UneError, match="give keys, one for each image"):
        edit(x_T, schedule, moves, phases=phases)


def test_under_guidance_both_branches_move(schedule, x_T, moves):
    """Against one network that is guided outside, with the same moves inside."""
    cond = guidance.guide(jnp.full(1, 1.5), jnp.full(1, 0.5), jnp.full(1, 3.0))
    found = edit(x_T, schedule, moves, halves=hspace.guided(HALVES), cond=cond)

    outside = hspace.Halves(
        lambda p, x, t, c: (
            jnp.stack([down(p, x, t, jnp.full(1, v))[0] for v in (0.5, 1.5)], -1),
            (x, t),
        ),
        lambda p, h, rest: (
            up(p, h[..., 0], rest)
            + 3.0 * (up(p, h[..., 1], rest) - up(p, h[..., 0], rest))
        ),
    )
    shift = lambda what, h, at: h + what[at.i][None, ..., None]  # noqa: E731
    wanted = hspace.sample(outside, PARAMS, x_T, schedule, shift=shift, what=moves)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    weak = guidance.guide(jnp.full(1, 1.5), jnp.full(1, 0.5), jnp.full(1, 1.0))
    np.testing.assert_allclose(
        edit(x_T, schedule, moves, halves=hspace.guided(HALVES), cond=weak),
        edit(x_T, schedule, moves, cond=jnp.full(1, 1.5)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_v_predicting_twin_gives_the_same_edit(x_T, moves):
    alphas = jnp.asarray(alphas_cumprod_of(SD), jnp.float32)

    def up_v(params, h, rest):
        x, t = rest
        a = alphas[t][:, None, None, None]
        eps = up(params, h, rest)
        return (eps - jnp.sqrt(1 - a) * x) / jnp.sqrt(
            a
        )  # v = (eps - sqrt(1-a) x) / sqrt(a)

    eps_schedule = Schedule.from_config(SD, steps=N)
    v_schedule = Schedule.from_config(
        {**SD, "prediction_type": "v_prediction"}, steps=N
    )
    found = edit(x_T, v_schedule, moves, halves=hspace.Halves(down, up_v))
    np.testing.assert_allclose(found, edit(x_T, eps_schedule, moves), atol=1e-4)


def test_a_learned_variance_is_not_looked_at(schedule, x_T, moves):
    both = hspace.Halves(
        down, lambda p, h, rest: jnp.concatenate([up(p, h, rest)] * 2, -1) * 1.0
    )
    found = edit(x_T, schedule, moves, halves=both)
    np.testing.assert_array_equal(found, edit(x_T, schedule, moves))


def test_collect_gives_the_image_and_h(schedule, x_T):
    out = hspace.collect(HALVES, PARAMS, x_T, schedule)
    np.testing.assert_allclose(
        out.x0, ddim.sample(whole, PARAMS, x_T, schedule), atol=1e-6
    )
    t = jnp.full(len(x_T), schedule.sampling.t[0])
    np.testing.assert_allclose(
        out.h[:, 0], down(PARAMS, x_T, t, None)[0], rtol=1e-5, atol=1e-5
    )
    assert out.h.shape == (3, N, *H)


def test_own_h_put_in_its_place_changes_nothing(schedule, x_T):
    h = jnp.moveaxis(hspace.collect(HALVES, PARAMS, x_T, schedule).h, 1, 0)
    put = lambda what, h, at: what[at.i]  # noqa: E731
    again = edit(x_T, schedule, h, shift=put)
    np.testing.assert_allclose(again, edit(x_T, schedule, 0 * h), rtol=1e-5, atol=1e-5)


def test_strengths_and_images_under_vmap_and_jit(schedule, x_T, moves):
    strengths = jnp.linspace(-2, 2, 5)

    @jax.jit
    def grid(x_T):
        return jax.vmap(lambda s: edit(x_T, schedule, s * moves))(strengths)

    found = grid(x_T)
    assert found.shape == (5, *SHAPE)
    for s, images in zip(strengths, found, strict=True):
        np.testing.assert_allclose(images, edit(x_T, schedule, s * moves), atol=1e-5)


def test_edits_have_a_gradient(schedule, x_T, moves):
    def far(moves):
        return jnp.sum(edit(x_T, schedule, moves) ** 2)

    slope = jax.grad(far)(moves)
    step = 1e-2 * slope / jnp.linalg.norm(slope)
    wanted = (far(moves + step) - far(moves - step)) / 2
    assert float(jnp.sum(slope * step)) == pytest.approx(float(wanted), rel=0.02)


def test_turning_keeps_the_norm(schedule):
    h = jax.random.normal(jax.random.key(5), (2, *H))
    moves = jax.random.normal(jax.random.key(6), (1, *H))
    at = hspace.At(jnp.int32(0), jnp.int32(0))

    def turned(amount):
        return np.asarray(hspace.turn(hspace.Turned(moves, jnp.full(1, amount)), h, at))

    def norm(x):
        return np.linalg.norm(x.reshape(2, -1), axis=1)

    np.testing.assert_allclose(turned(0.0), h, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm(turned(0.4)), norm(np.asarray(h)), rtol=1e-5)
    ends = turned(1.0) / norm(turned(1.0))[:, None, None, None]
    np.testing.assert_allclose(ends[0], moves[0] / jnp.linalg.norm(moves), atol=1e-5)


def test_composing_keeps_the_length_of_moves_at_right_angles(moves):
    one, other = jnp.eye(N * 8)[:2].reshape(2, N, *H)
    both = hspace.compose(jnp.stack([one, other]), jnp.ones(2))
    assert float(jnp.linalg.norm(both)) == pytest.approx(1.0)
    early = jnp.stack([jnp.ones(N), jnp.zeros(N)])  # of the second nothing
    by_step = hspace.compose(jnp.stack([moves, moves]), early)
    np.testing.assert_allclose(by_step, moves / np.sqrt(2), rtol=1e-6)


def test_another_number_of_steps_keeps_the_sum():
    """Asyrp, Sec. 3.4: a move that is the same at all steps sums to the same."""
    few, many = (Schedule.from_config(SD, steps=n).sampling.t for n in (10, 50))
    moves = jnp.ones((10, *H))
    longer = hspace.retime(moves, few, many)
    assert longer.shape == (50, *H)
    np.testing.assert_allclose(longer.sum(0), moves.sum(0), rtol=1e-5)
    by_t = jnp.broadcast_to(few[:, None, None, None].astype(jnp.float32), (10, *H))
    nearest = hspace.retime(by_t, few, many)[:, 0, 0, 0] * 5
    apart = np.abs(np.asarray(nearest) - np.asarray(many))
    assert apart[np.asarray(many) <= few.max()].max() <= 50  # half of what few step by
