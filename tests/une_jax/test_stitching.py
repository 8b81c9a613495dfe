"""Maps between families, what they are scored by, and what must not be mixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.metrics import r2_score

from une_jax import maps, stitching
from une_jax.errors import UneError
from une_jax.stitching import Source, predict, weight

pytestmark = pytest.mark.usefixtures("quick_compiles")
PRIMAL, DUAL = (90, 12), (40, 70)
shapes = pytest.mark.parametrize("shape", [PRIMAL, DUAL])
score = jax.jit(stitching.score)


def pairs(shape, e=5, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.5 + 5
    y = x @ rng.standard_normal((shape[1], e))
    y = y + noise * rng.standard_normal(y.shape) - 7
    return x.astype(np.float32), y.astype(np.float32)


def near(got, wanted, tol):
    np.testing.assert_allclose(got, wanted, atol=tol * np.abs(wanted).max(), rtol=0)


def says(m, peer, x, tol=2e-5):
    new = x[::-1] * 1.5 + 1
    near(predict(m, jnp.asarray(new)), peer.predict(new.astype(float)), tol)


@shapes
def test_one_source_serves_targets_and_penalties(shape):
    x, y = pairs(shape)
    source = Source(x)
    for targets in (y, y[:, :2] * 30):
        for alpha in (0.5, 20.0):
            m = source.fit(targets, alpha=alpha)
            says(m, Ridge(alpha).fit(x.astype(float), targets.astype(float)), x)
            assert m.alpha == np.float32(alpha)
        least = LinearRegression().fit(x.astype(float), targets.astype(float))
        for m in (source.fit(targets, kind="ols"), source.fit(targets, alpha=0.0)):
            says(m, least, x, 1e-4)
            assert m.alpha == 0
    assert len(source._solvers) == 3  # two penalties, and without


@shapes
def test_maps_of_one_source_share_its_rows_and_what_is_said_of_new_ones(shape):
    x, y = pairs(shape)
    source = Source(x)
    many = [source.fit(t, alpha=a) for t, a in ((y, 1.0), (y[:, :2], 1.0), (y, 3.0))]
    many += [source.fit(y), source.fit(y, kind="procrustes"), source.fit(y, kind="ols")]
    for m, said in zip(many, stitching.predict_all(many, jnp.asarray(x[:7])), strict=True):  # fmt: skip
        near(said, predict(m, jnp.asarray(x[:7])), 1e-6)
    if shape == DUAL:  # not copies, which are large
        assert many[0].rows is many[2].rows and many[0].dual is many[1].dual
        assert many[3].rows is source.fit(2 * y).rows


@shapes
def test_chooses_the_penalty_that_sklearns_ridgecv_chooses(shape):
    x, y = pairs(shape, noise=3)
    source = Source(x)
    grid = np.array(stitching.ALPHAS) * source.scale
    peer = RidgeCV(grid).fit(x.astype(float), y.astype(float))
    m = stitching.fit(source, y)
    np.testing.assert_allclose(m.alpha, peer.alpha_, rtol=1e-5)
    says(m, peer, x, 1e-4)
    again = source.fit(y, alpha=peer.alpha_ / source.scale, relative=True)
    near(weight(again), weight(m), 1e-4)


@shapes
def test_a_relative_penalty_does_not_depend_on_units(shape):
    x, y = pairs(shape)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False)[: min(shape[0] - 1, shape[1])]  # fmt: skip
    np.testing.assert_allclose(Source(x).scale, np.mean(values**2), rtol=1e-4)
    m = Source(x).fit(y, alpha=0.1, relative=True)
    scaled = Source(100 * x).fit(y, alpha=0.1, relative=True)
    near(predict(scaled, jnp.asarray(100 * x)), predict(m, jnp.asarray(x)), 1e-4)


@pytest.mark.parametrize("n", [60, 8])
def test_procrustes_recovers_a_planted_rotation(n):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    x = rng.standard_normal((n, 10)).astype(np.float32)
    y = (3 * x @ turn + 2).astype(np.float32)
    source = Source(x)
    m = source.fit(y, kind="procrustes")
    near(predict(m, jnp.asarray(x)), y, 1e-4)
    assert jnp.isnan(m.alpha)
    if n > 10:
        near(weight(m), 3 * turn, 1e-4)
    bare = source.fit(y, kind="procrustes", scale=False)
    values = jnp.linalg.svd(weight(bare), compute_uv=False)[: min(n - 1, 10)]
    np.testing.assert_allclose(values, 1, rtol=1e-4)
    near(weight(bare), maps.procrustes(jnp.asarray(x), jnp.asarray(y)).weight, 1e-4)


@shapes
@pytest.mark.parametrize("alpha", ["loo", 2.0])
def test_reduced_rank_is_the_map_of_that_rank(shape, alpha):
    x, y = pairs(shape)
    source = Source(x)
    full = source.fit(y, alpha=alpha)
    for rank in (1, 3):
        m = source.fit(y, kind="reduced_rank", alpha=alpha, rank=rank)
        wanted = maps.reduced_rank(jnp.asarray(x), jnp.asarray(y), rank, full.alpha)
        near(weight(m), wanted.weight, 1e-4)
        assert m.core.shape == (rank, 5)
        assert np.linalg.matrix_rank(np.asarray(weight(m)), tol=1e-4) == rank
    whole = source.fit(y, kind="reduced_rank", alpha=alpha, rank=5)
    near(predict(whole, jnp.asarray(x)), predict(full, jnp.asarray(x)), 1e-4)


def test_the_random_encoder_tells_nothing_of_test_rows(key):
    y = np.random.default_rng(0).standard_normal((1200, 6)).astype(np.float32) * 4 + 1
    x = stitching.random_encoder(key, jnp.arange(1200), 30)
    for m in (Source(x[:1000]).fit(y[:1000]), Source(x[:1000]).fit(y[:1000], kind="ols")):  # fmt: skip
        found = score(predict(m, x[1000:]), jnp.asarray(y[1000:]), m.bias)
        assert -0.08 < found.r2 < 0.02
        np.testing.assert_allclose(found.mean_mse, np.square(y[1000:] - y[:1000].mean(0)).mean(), rtol=1e-4)  # fmt: skip


def test_the_random_encoder_depends_on_the_image_alone(key):
    encode = jax.jit(stitching.random_encoder, static_argnames="dimensions")
    rows = encode(key, jnp.arange(1, 4000), 16)
    np.testing.assert_array_equal(encode(key, jnp.array([70, 5]), 16), rows[jnp.array([69, 4])])  # fmt: skip
    assert abs(float(rows.mean())) < 0.02 and abs(float(rows.std()) - 1) < 0.02
    many = jax.vmap(lambda i: stitching.random_encoder(key, i, 16))(jnp.array([[1], [2]]))  # fmt: skip
    np.testing.assert_array_equal(many[:, 0], rows[:2])


def test_scores_are_their_formulas():
    _, truth = pairs((50, 4))
    truth[:, 2] = 1.5  # does not vary
    guess = truth + np.random.default_rng(1).standard_normal(truth.shape).astype("f4")
    mean = truth.mean(0) + 0.5
    found = score(*map(jnp.asarray, (guess, truth, mean)))
    mse = np.square(guess - truth).mean()
    np.testing.assert_allclose(found.mse, mse, rtol=1e-5)
    np.testing.assert_allclose(found.mean_mse, np.square(truth - mean).mean(), rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(found.skill, 1 - found.mse / found.mean_mse, rtol=1e-4)
    total = 1 - mse / np.square(truth - truth.mean(0)).mean()
    np.testing.assert_allclose(found.r2, total, rtol=1e-4)
    varies = np.arange(5) != 2
    each = r2_score(truth, guess, multioutput="raw_values")
    np.testing.assert_allclose(found.r2_each[varies], each[varies], rtol=1e-4)
    assert jnp.isnan(found.r2_each[2])


def test_scores_under_vmap_and_their_slope():
    _, truth = pairs((50, 4))
    truth, mean = jnp.asarray(truth), jnp.asarray(truth.mean(0))
    guesses = jnp.stack([truth * 0.9, truth * 1.2])
    many = jax.vmap(stitching.score, in_axes=(0, None, None))(guesses, truth, mean)
    for i, guess in enumerate(guesses):
        np.testing.assert_allclose(many.r2[i], score(guess, truth, mean).r2, rtol=1e-5)
    slope = jax.grad(lambda t: stitching.score(truth * t, truth, mean).mse)(1.5)
    np.testing.assert_allclose(slope, jnp.mean(truth**2), rtol=1e-4)


def test_the_papers_penalties():
    assert stitching.paper_alpha("dm", "vae") == 100
    assert stitching.paper_alpha("nf", "dm") == 50_000
    for source in ("vae", "vqvae", "gan", "random", "clip"):
        for target in ("dm", "nf", "vae", "vqvae", "gan"):
            assert stitching.paper_alpha(source, target) == 0
    assert len(stitching.PAPER_ALPHAS) == 8


def test_the_leak_check_raises():
    a = [f"{i:06d}.jpg" for i in range(10)]
    stitching.disjoint(map=a[:4], probe=a[4:7], test=a[7:])
    with pytest.raises(UneError, match="^probe and test have 2 images in common"):
        stitching.disjoint(map=a[:4], probe=a[4:8], test=a[6:])
    with pytest.raises(UneError, match="map and test have 1 image in common"):
        stitching.disjoint(map=np.arange(4), probe=[7], test=iter([3, 9]))


def test_rows_must_be_of_the_same_images_in_order():
    x, y = pairs(PRIMAL)
    keys = [f"{i}.jpg" for i in range(90)]
    stitching.check_rows(x, y, x_keys=keys, y_keys=np.array(keys))
    swapped = keys[:3] + [keys[4], keys[3]] + keys[5:]
    with pytest.raises(UneError, match="row 3 is of 3.jpg in vae, of 4.jpg in dm"):
        stitching.check_rows(x, y, x_keys=keys, y_keys=swapped, names=("vae", "dm"))


def test_says_what_rows_it_needs():
    x, y = pairs(PRIMAL)
    hole, gone = x.copy(), y.copy()
    hole[3, 1], gone[:2, 0] = np.nan, np.inf
    with pytest.raises(UneError, match="^x has 1 of 90 rows that are not finite"):
        Source(hole)
    with pytest.raises(UneError, match="^y has 2 of 90 rows that are not finite"):
        Source(x).fit(gone)
    with pytest.raises(UneError, match="x has 90 rows, y has 89: give pairs"):
        Source(x).fit(y[1:])
    with pytest.raises(UneError, match="vae has 90 rows, dm has 89: give pairs"):
        stitching.check_rows(x, y[1:], names=("vae", "dm"))
    with pytest.raises(UneError, match="at least 2 rows; x has 1"):
        Source(x[:1])
    with pytest.raises(UneError, match="at least 100 rows; x has 90"):
        stitching.check_rows(x, least=100)
    with pytest.raises(UneError, match=r"x has shape \(90, 3, 4\)"):
        stitching.check_rows(x.reshape(90, 3, 4))
    # Latents may be halves: their sums need not be finite where they are.
    stitching.check_rows(np.full((3, 4), 6e4, np.float16))


def test_says_what_kinds_there_are():
    x, y = pairs(PRIMAL)
    source = Source(x)
    with pytest.raises(
        UneError, match="no kind of map is 'lasso'; use one of ridge, ols"
    ):
        source.fit(y, kind="lasso")
    for bad in (-1.0, float("nan"), float("inf"), "cv"):
        with pytest.raises(UneError, match="use a number of 0 or more"):
            source.fit(y, alpha=bad)
    for wrong in ({"kind": "reduced_rank"}, {"rank": 2}):
        with pytest.raises(UneError, match="rank is"):
            source.fit(y, **wrong)
    with pytest.raises(UneError, match="rank is 6; maps from these rows have 1 to 5"):
        source.fit(y, kind="reduced_rank", rank=6)
    with pytest.raises(
        UneError, match=r"guesses are \(90, 5\), the truth is \(89, 5\)"
    ):
        stitching.score(jnp.asarray(y), jnp.asarray(y[1:]), jnp.zeros(5))
