"""The permutation null counts the dimensions that views share, and none by chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import gcca, shared_dimensions
from une_jax.errors import UneError

N, WIDTHS = 150, (12, 16)
counted = jax.jit(
    shared_dimensions.beyond_chance, static_argnames=("k", "permutations", "level")
)


pytestmark = pytest.mark.usefixtures("compiling_fast")


def views(shared, seed):
    """Each its own Gaussian, and ``shared`` dimensions of one that both see."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N, 6))[:, :shared]
    made = []
    for d in WIDTHS:
        x = rng.standard_normal((N, d))
        x[:, :shared] = z + 0.3 * x[:, :shared]
        made.append(x @ rng.standard_normal((d, d)))
    return [jnp.asarray(x, jnp.float32) for x in made]


@pytest.mark.parametrize("shared", [0, 1, 4])
def test_counts_what_is_shared(shared, key):
    found = counted(key, views(shared, 1), 8, 1.0)
    assert found.count == shared
    assert (found.null.pvalue[:shared] == 0.01).all()


def test_agreements_are_those_of_the_fit(key):
    given = views(3, 2)
    found = counted(key, given, 8, 1.0)
    want = gcca.fit(given, 8, 1.0).agreement
    np.testing.assert_allclose(found.null.observed, want, atol=1e-5)


def test_chance_agrees_much_without_being_a_sign_of_anything(key):
    """12 and 16 columns of 150 rows: the best pair correlates at more than 0.4."""
    found = counted(key, views(0, 3), 8, 1.0)
    correlation = 2 * found.samples - 1
    assert 0.4 < correlation.min() and correlation.max() < 0.8
    assert found.null.observed[0] < found.samples.max() + 0.05


def test_unrelated_views_are_refused_as_often_as_said():
    """Over 80 pairs of unrelated views a test at 10 % finds something in about 8."""
    given = [jnp.stack(v) for v in zip(*(views(0, s) for s in range(80)), strict=True)]
    keys = jax.random.split(jax.random.key(1), 80)

    def count(key, views):
        found = shared_dimensions.beyond_chance(
            key, views, 2, 1.0, permutations=19, level=0.1
        )
        return found.count

    wrong = jax.jit(jax.vmap(count))(keys, given) > 0
    assert 1 <= wrong.sum() <= 17


@pytest.mark.parametrize(
    "widths, says",
    [((3,), "two views or more"), ((3, 30), "more columns than the 20 rows")],
)
def test_bad_input_is_named(widths, says, key):
    with pytest.raises(UneError, match=says):
        shared_dimensions.beyond_chance(
            key, [jnp.ones((20, d)) for d in widths], 2, 1.0
        )


def test_no_permutations_are_none(key):
    with pytest.raises(UneError, match="0 permutations"):
        shared_dimensions.beyond_chance(key, views(0, 1), 2, 1.0, permutations=0)
