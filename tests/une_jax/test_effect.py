import jax
import jax.numpy as jnp
import numpy as np

from une_jax import effect
from une_jax.effect import Reading
from une_jax.miniature import factors

SMILING = factors.NAMES.index("Smiling")


def drawn(seed, n=64):
    t = factors.draw(jax.random.key(seed), n)
    return Reading(t.scores, t.nuisance)


def test_an_edit_of_one_score_alone_is_all_intended():
    before = drawn(0)
    after = before._replace(scores=before.scores.at[:, SMILING].add(1.5))
    found = effect.measure(before, after, SMILING)
    np.testing.assert_allclose(found.intended, 1.5, atol=1e-6)
    np.testing.assert_array_equal(found.collateral, 0)
    np.testing.assert_allclose(found.identity, 1, atol=1e-6)


def test_other_scores_changes_are_collateral_whatever_their_sign():
    before = drawn(1)
    moved = jnp.tile(jnp.array([0.5, -0.5]), len(factors.NAMES) // 2)
    found = effect.measure(
        before, before._replace(scores=before.scores + moved[None]), 0
    )
    np.testing.assert_allclose(found.intended, 0.5, atol=1e-6)
    np.testing.assert_allclose(found.collateral, 0.5, atol=1e-6)
    np.testing.assert_allclose(
        found.change, jnp.broadcast_to(moved[None], (64, 20)), atol=1e-6
    )


def test_strangers_have_no_identity_in_common():
    found = effect.measure(drawn(2, 2000), drawn(3, 2000), 0)
    assert abs(float(found.identity.mean())) < 0.03


def test_what_the_edit_is_to_change_is_not_held_against_who_it_is():
    before = drawn(6)
    own = jnp.zeros(len(factors.NUISANCES)).at[2].set(7.0)
    after = before._replace(identity=before.identity + 3 * own[None])
    assert float(effect.measure(before, after, 0).identity.mean()) < 0.5
    found = effect.measure(before, after, 0, own)
    np.testing.assert_allclose(found.identity, 1, atol=1e-5)
    nothing = effect.measure(before, after, 0, jnp.zeros_like(own))
    whole = effect.measure(before, after, 0)
    np.testing.assert_array_equal(nothing.identity, whole.identity)


def test_it_runs_under_vmap_and_jit():
    before, after = drawn(4), drawn(5)
    own = jnp.arange(len(factors.NUISANCES), dtype=jnp.float32)
    one = jax.jit(effect.measure, static_argnums=2)(before, after, 2, own)
    old, new = (jax.tree.map(lambda x: x[:, None], e) for e in (before, after))
    each = jax.vmap(effect.measure, in_axes=(0, 0, None, None))(old, new, 2, own)
    for a, b in zip(one, each, strict=True):
        np.testing.assert_allclose(a, b[:, 0], atol=1e-6)
