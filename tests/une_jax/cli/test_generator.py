"""Generators: every way to invert gives its images back, and says how well."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from ports import stable_diffusion
from ports.conditioning import Condition
from une_jax import ddim, exact, flops, guidance, image_metrics, images, parallel
from une_jax.cli import generator, names, programs
from une_jax.cli.encoder import load_encoder
from une_jax.cli.generator import Settings, load_generator
from une_jax.errors import UneError

N, STEPS, BATCH = 6, 4, 4
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 16, 16, 3), np.uint8)
ROWS = np.arange(N)
PROMPTS = ("a hat", "", "a beard", "a hat", "hair", "a hat")
# Latents of unit size: float32 rounding in another batch, or in another program.
ROUNDING = 5e-5


@pytest.fixture(scope="module")
def lcm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "lcm"
    return tiny_models.write_pipeline(folder, lcm=True)


def load(folder, **how):
    model = names.resolve(f"tiny={folder}")
    return load_generator(model, Settings(steps=STEPS, **how), batch_size=BATCH)


def rms(x):
    return np.sqrt(np.mean(np.square(x), axis=(1, 2, 3)))


def by_hand(g, walk, latents, cond):
    """A walk of the library with the plain network, no batches and no preparation."""
    eps_fn = guidance.guided(g.sd.unet.apply)
    run = jax.jit(lambda params, x: walk(eps_fn, params, x, schedule, cond))
    schedule = g.walk_params["steps"]
    with jax.default_matmul_precision("float32"):
        out = run(g.sd.unet.params, jnp.asarray(latents.transpose(0, 2, 3, 1)))
    return np.asarray(out).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("method", programs.METHODS)
def test_what_is_stored_gives_the_image_back_as_well_as_it_says(tiny, method):
    """A tail, the round trip's error, and the PSNR of unrounded pixels."""
    g = load(tiny, method=method, round_trip="pixels", controls=True)
    out = g.compute(PIXELS, ROWS)
    assert list(out.arrays) == [view.name for view in g.views]
    for view in g.views:
        x = out.arrays[view.name]
        assert x.shape == (N, *view.shape) and x.dtype == view.dtype
    kinds = ("residual", "round_trip", "psnr")
    assert set(out.columns) == {f"{kind}/tiny" for kind in kinds}
    assert all(np.isfinite(x).all() and x.shape == (N,) for x in out.columns.values())

    compiled = g.walks.sample._cache_size()
    again = g.denoise(out.arrays["tiny"], origin=out.arrays)
    missed = rms(again - out.arrays["tiny.x0"])
    np.testing.assert_allclose(out.columns["round_trip/tiny"], missed, atol=1e-6)
    assert (missed.max() < 1e-5) == (method in ("exact", "dpm-encoder"))

    seen = g.decode(out.arrays["tiny"], origin=out.arrays) / np.float32(255)
    psnr = image_metrics.psnr(seen, PIXELS / np.float32(255))
    np.testing.assert_allclose(out.columns["psnr/tiny"], psnr, atol=0.2)
    assert np.abs(out.columns["psnr/tiny"] - psnr).max() > 1e-4  # it was not rounded
    assert g.walks.sample._cache_size() == compiled  # one program both ways


def test_measuring_changes_no_bit_and_can_be_left_out(tiny):
    bare, full = (load(tiny, round_trip=r) for r in ("none", "latent"))
    out, more = (g.compute(PIXELS, ROWS) for g in (bare, full))
    assert set(out.columns) == {"residual/tiny"}
    assert set(more.columns) == {"residual/tiny", "round_trip/tiny"}
    np.testing.assert_array_equal(out.arrays["tiny"], more.arrays["tiny"])


def test_equal_images_have_a_finite_psnr():
    pixels = jnp.asarray(PIXELS)
    exactly = programs.psnr(images.to_signed(pixels), pixels)
    assert np.isfinite(exactly).all() and exactly.min() > 100
    grey = jnp.zeros(pixels.shape)
    wanted = image_metrics.psnr(grey + 0.5, PIXELS / np.float32(255))
    np.testing.assert_allclose(programs.psnr(grey, pixels), wanted, rtol=1e-5)
    assert np.isnan(programs.psnr(grey.at[1].set(jnp.nan), pixels)).tolist() == [
        i == 1 for i in range(N)
    ]


def test_an_edit_moves_an_exact_pair_as_one(tiny):
    """x_before goes where the step from x_T goes; no edit is the image itself."""
    g = load(tiny, method="exact", round_trip="none")
    origin = {k: v[:2] for k, v in g.compute(PIXELS, ROWS).arrays.items()}
    step = np.random.default_rng(1).standard_normal((1, 4 * 8 * 8), np.float32)
    moved = origin["tiny"] + step.reshape(1, 4, 8, 8)

    def followed(eps_fn, params, x, schedule, cond):
        def before(x):
            return exact.begin(eps_fn, params, x, schedule, cond).x_before

        old = jnp.asarray(origin["tiny"].transpose(0, 2, 3, 1))
        code = jnp.asarray(origin["tiny.before"].transpose(0, 2, 3, 1))
        pair = exact.Pair(x, code + before(x) - before(old))
        return exact.sample(eps_fn, params, pair, schedule, cond)

    wanted = by_hand(g, followed, moved, g.condition(""))
    got = g.denoise(moved, origin=origin)
    np.testing.assert_allclose(got, wanted, atol=10 * ROUNDING)
    alone = g.denoise(moved)  # as noise that has no history
    assert rms(alone - got).min() > 1e-3

    amounts = np.broadcast_to(np.array([[[0.0], [1.0]]], np.float32), (2, 2, 1))
    grid = g.edit(origin, step, amounts)
    np.testing.assert_array_equal(grid[:, 0], g.decode(origin["tiny"], origin=origin))
    np.testing.assert_array_equal(grid[:, 1], g.decode(moved, origin=origin))
    assert np.abs(grid[:, 0].astype(int) - grid[:, 1]).max() > 10


def test_an_edit_keeps_the_noise_of_every_step(tiny):
    g = load(tiny, method="dpm-encoder", round_trip="none")
    out = g.compute(PIXELS, ROWS).arrays
    moved = out["tiny"][:2] + 0.5
    own, other = (
        g.denoise(moved, origin={k: v[rows] for k, v in out.items()})
        for rows in (slice(0, 2), slice(2, 4))
    )
    fresh = g.denoise(moved)
    assert rms(own - other).min() > 1e-3 and rms(own - fresh).min() > 1e-3
    np.testing.assert_array_equal(fresh, g.denoise(moved))  # drawn from the seed


def test_a_code_depends_on_seed_and_row_and_on_no_neighbour(tiny):
    g = load(tiny, method="dpm-encoder", round_trip="none")
    out = g.compute(PIXELS, ROWS).arrays
    some = g.compute(PIXELS[[0, 3]], np.array([0, 3])).arrays
    np.testing.assert_allclose(some["tiny"], out["tiny"][[0, 3]], atol=ROUNDING)
    twins = g.compute(PIXELS[[0, 0]], np.array([0, 1])).arrays
    assert rms(twins["tiny"][:1] - twins["tiny"][1:]) > 0.5
    other = load(tiny, method="dpm-encoder", round_trip="none", seed=1)
    assert rms(other.compute(PIXELS, ROWS).arrays["tiny"] - out["tiny"]).min() > 0.5


@pytest.mark.parametrize("scale", (1.0, 3.0))
def test_each_image_has_its_own_prompt(tiny, scale):
    """As if it stood alone with it: there, back and measured."""
    each = load(tiny, prompt=None, guidance=scale)
    out = each.compute(PIXELS, ROWS, PROMPTS)
    for prompt in ("a hat", ""):
        one = load(tiny, prompt=prompt, guidance=scale)
        rows = [i for i in range(N) if PROMPTS[i] == prompt]
        alone = one.compute(PIXELS, ROWS)
        np.testing.assert_allclose(
            out.arrays["tiny"][rows], alone.arrays["tiny"][rows], atol=ROUNDING
        )
        for column, values in alone.columns.items():
            np.testing.assert_allclose(
                out.columns[column][rows], values[rows], atol=1e-4
            )
    hats = each.denoise(out.arrays["tiny"], prompts=["a hat"] * N)
    own = each.denoise(out.arrays["tiny"], prompts=PROMPTS)
    apart = rms(hats - own) > 1e-3
    assert apart.tolist() == [prompt != "a hat" for prompt in PROMPTS]


def test_prompts_are_encoded_in_batches_of_one_size_and_once_each(tiny, monkeypatch):
    g = load(tiny, prompt=None)
    sizes, encode = [], generator.condition

    def seen(sd, prompts, *args, **how):
        sizes.append((len(prompts), len(set(prompts))))
        return encode(sd, prompts, *args, **how)

    monkeypatch.setattr(generator, "condition", seen)
    prompts = [*"abcdeaaa"]
    told = g._told(None, prompts)["cond"]
    assert sizes == [(BATCH, 4), (BATCH, 1)]
    assert told.shape == (8, tiny_models.TOKENS, tiny_models.WIDTH)
    for i, prompt in enumerate(prompts):
        one = stable_diffusion.encode_prompts(g.sd, [prompt])
        np.testing.assert_allclose(told[i : i + 1], one, atol=1e-5)


def test_prompts_are_given_where_each_image_has_its_own_and_only_there(tiny):
    each, one = load(tiny, prompt=None), load(tiny, prompt="a hat")
    noise = np.zeros((N, 4, 8, 8), np.float32)
    with pytest.raises(UneError, match="tiny needs a prompt for each image"):
        each.compute(PIXELS, ROWS)
    with pytest.raises(UneError, match="tiny has one prompt, not one for each image"):
        one.compute(PIXELS, ROWS, PROMPTS)
    for g, prompts in ((each, None), (one, PROMPTS)):
        with pytest.raises(UneError, match="tiny: give prompts, one an image, where"):
            g.decode(noise, prompts=prompts)


def test_guidance_goes_on_beyond_the_prompt_in_both_directions(tiny):
    g = load(tiny, prompt="a hat", guidance=3.0, negative="hair", controls=True)
    out = g.compute(PIXELS, ROWS).arrays
    cond, without = (
        stable_diffusion.encode_prompts(g.sd, [p]) for p in ("a hat", "hair")
    )
    cond = guidance.guide(cond, without, jnp.full(1, 3.0))
    x_T = by_hand(g, ddim.invert, out["tiny.x0"], cond)
    np.testing.assert_allclose(out["tiny"], x_T, atol=ROUNDING)
    again = by_hand(g, ddim.sample, out["tiny"], cond)
    np.testing.assert_allclose(g.denoise(out["tiny"]), again, atol=ROUNDING)
    plain = load(tiny, prompt="a hat").compute(PIXELS, ROWS).arrays["tiny"]
    assert rms(plain - out["tiny"]).min() > 1e-3


def test_guidance_away_from_the_prompt_itself_is_none(tiny):
    """Equal branches are one: no bit and no work more."""
    plain, idle = load(tiny), load(tiny, guidance=3.5)
    a, b = (g.compute(PIXELS, ROWS).arrays["tiny"] for g in (plain, idle))
    np.testing.assert_array_equal(a, b)
    # But another prompt, of the same pipeline, is guided.
    hat = idle.condition("a hat")
    assert np.abs(idle.decode(a, hat).astype(int) - plain.decode(a, hat)).max() > 1


def test_a_consistency_model_embeds_its_guidance_the_same_both_ways(lcm):
    weak, strong = (load(lcm, guidance=w, controls=True) for w in (1.0, 4.0))
    assert [g.views[0].settings["guidance_scale"] for g in (weak, strong)] == [1, 4]
    assert strong.walk_params["guidance"] is None  # no second branch
    out = strong.compute(PIXELS, ROWS).arrays
    context = stable_diffusion.encode_prompts(strong.sd, [""], guidance_scale=None)
    cond = Condition(context.context, jnp.full(1, 4.0))
    x_T = by_hand(strong, ddim.invert, out["tiny.x0"], cond)
    np.testing.assert_allclose(out["tiny"], x_T, atol=ROUNDING)
    again = by_hand(strong, ddim.sample, out["tiny"], cond)
    np.testing.assert_allclose(strong.denoise(out["tiny"]), again, atol=ROUNDING)
    assert rms(weak.compute(PIXELS, ROWS).arrays["tiny"] - out["tiny"]).min() > 1e-3
    with pytest.raises(
        UneError, match="tiny embeds its guidance: it takes no negative"
    ):
        load(lcm, guidance=4.0, negative="hair")
    each = load(lcm, guidance=4.0, prompt=None, controls=True)
    np.testing.assert_allclose(
        each.compute(PIXELS, ROWS, [""] * N).arrays["tiny"], out["tiny"], atol=ROUNDING
    )


def test_a_view_brings_back_the_generator_that_made_it(tiny):
    how = dict(method="exact", prompt="a hat", guidance=3.0, negative="hair")
    made = load(tiny, **how)
    again = generator.generator_of_view(made.views[0], str(tiny), rows=BATCH)
    assert again.settings == dataclasses.replace(
        made.settings, round_trip="none", size=16
    )
    out = made.compute(PIXELS, ROWS).arrays
    assert again.decodes_from == ("tiny", "tiny.before")
    np.testing.assert_array_equal(
        again.denoise(out["tiny"], origin=out), made.denoise(out["tiny"], origin=out)
    )


def test_a_bad_image_harms_no_neighbour(tiny):
    """A pipeline whose latents overflow for one row alone."""
    g = load(tiny, method="fixed-point")
    broken = g.vae.encode

    def encode(params, pixels):
        return broken(params, pixels).at[1].set(jnp.inf)

    own = g.compute(PIXELS, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        pictures = g.vae._replace(encode=encode)
        patch.setattr(generator.Generator, "vae", pictures)
        bad = g.compute(PIXELS, ROWS)
    good = [i for i in range(N) if i % BATCH != 1]
    for name, values in (own.arrays | own.columns).items():
        other = (bad.arrays | bad.columns)[name]
        np.testing.assert_array_equal(values[good], other[good])
        assert not np.isfinite(other[1]).all()


def test_a_walk_takes_the_memory_of_its_latents(tiny):
    """Warnings are errors here: no donated buffer may be left unused."""
    g = load(tiny, method="exact", round_trip="none")
    batch = (
        np.ones((BATCH, 8, 8, 4), np.float32),
        {"row": np.arange(BATCH, dtype=np.int32)},
    )
    x, more = parallel.shard_batch(batch, g.mesh)
    out = g.walks.invert(g.walk_params, x, more)
    assert x.is_deleted() and not more["row"].is_deleted()
    x_T, code = out["x_T"], out["code"]
    g.walks.sample(g.walk_params, x_T, more | {"code": code})
    assert x_T.is_deleted() and not code.is_deleted()


def test_no_step_of_a_build_repeats_what_the_condition_alone_decides(tiny):
    """The scan's body holds the products of one call with a prepared condition."""
    g = load(tiny, prompt="a hat", guidance=3.0)
    x = jnp.zeros((BATCH, 8, 8, 4))
    more = {"row": jnp.arange(BATCH, dtype=jnp.int32)}
    walk = jax.make_jaxpr(g.walks.invert.__wrapped__)(g.walk_params, x, more)
    (body,) = scans(walk.jaxpr)

    cond, t = g.condition(""), g.walk_params["steps"].down.t
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), cond)
    ready = g.sd.unet.apply(g.sd.unet.params, both, t, method="prepare")
    # A device has one row of the batch, and its two branches.
    pair, ts = jnp.zeros((2, 8, 8, 4)), jnp.repeat(t[:1], 2)
    one = flops.count(g.sd.unet.apply, g.sd.unet.params, pair, ts, ready)
    plain = flops.count(g.sd.unet.apply, g.sd.unet.params, pair, ts, both)
    assert flops._of(body) == one < plain


def scans(jaxpr):
    found = []
    for equation in jaxpr.eqns:
        inner = flops._jaxprs(equation.params)
        if equation.primitive.name == "scan":
            found += inner
        else:
            found += [body for each in inner for body in scans(each)]
    return found


@pytest.mark.parametrize("method", programs.METHODS)
@pytest.mark.parametrize("eval_at", ("source", "target"))
def test_flops_are_those_of_the_whole_walks(tiny, method, eval_at):
    """Fixed-point inversion may take ten calls a step; a jaxpr's loop counts one."""
    g = load(tiny, method=method, eval_at=eval_at, round_trip="pixels")
    said = g.flops_per_image()
    assert set(said) == {"vae", "unet", "round_trip"}
    x = jax.ShapeDtypeStruct((BATCH, 8, 8, 4), jnp.float32)
    more = {"row": jax.ShapeDtypeStruct((BATCH,), jnp.int32)}
    out = jax.eval_shape(g.walks.invert.__wrapped__, g.walk_params, x, more)
    codes = {"code": out["code"]} if "code" in out else {}

    def counted(program, *args):
        return flops.count(program.__wrapped__, *args) / BATCH

    there = counted(g.walks.invert, g.walk_params, x, more)
    back = counted(g.walks.sample, g.walk_params, x, more | codes)
    back += counted(g.vae.decode, g.vae_params, x)
    if method == "fixed-point":
        there *= 10 / 2
    # A single call is counted with what the walks prepare once for all calls.
    assert 1 <= said["unet"] / there < 1.1
    assert 1 <= said["round_trip"] / back < 1.1


def test_seconds_are_of_the_same_stages(tiny, eyes):
    for how, stages in (
        ({"round_trip": "none"}, {"vae", "unet"}),
        ({"round_trip": "pixels"}, {"vae", "unet", "round_trip"}),
        ({"prompt": None, "guidance": 2.0}, {"vae", "unet", "round_trip"}),
    ):
        g = load(tiny, **how)
        said = g.seconds_per_image()
        assert set(said) == set(g.flops_per_image()) == stages
        assert all(0 < seconds < np.inf for seconds in said.values())
    e = load_encoder(names.resolve(f"eyes={eyes}"), batch_size=BATCH)
    assert set(e.seconds_per_image()) == set(e.flops_per_image()) == {"encoder"}
    assert min(*e.seconds_per_image().values(), *e.flops_per_image().values()) > 0
