"""The directional loss: both forms by hand, and gradients where they could break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import directional
from une_jax.errors import UneError

E = jnp.eye(3)


def test_the_loss_by_hand():
    """Embeddings go from e0 to e1 (45 degrees off the text's e0 to e2); cosine 1/2."""
    image = jnp.full((1, 2, 2, 3), 0.25)
    put = (image, 0 * image, 2 * E[1:2], 5 * E[:1], 3 * E[0], E[2] + 0 * E[0])
    weights = directional.Weights(clip=2.0, recon=4.0)
    paper = directional.loss(*put, weights=weights)
    assert paper.cosine.item() == pytest.approx(0.5)
    assert paper.clip.item() == pytest.approx(0.5)
    assert paper.recon.item() == 0.25
    assert paper.total.item() == pytest.approx(2 * 0.5 + 4 * 0.25)
    code = directional.loss(*put, form="code", weights=weights)
    assert code.clip.item() == pytest.approx(-np.log(0.75), rel=1e-5)
    # The texts are at right angles: nothing is held back.
    assert code.total.item() == pytest.approx(-2 * np.log(0.75), rel=1e-5)


def test_the_code_holds_back_small_changes():
    image, near = jnp.full((1, 2, 2, 3), 0.5), jnp.array([0.8, 0.6, 0.0])
    put = (image, 0 * image, E[1:2], E[:1], E[0], near)
    out = directional.loss(*put, form="code")
    assert float(directional.text_cosine(E[0], near)) == pytest.approx(0.8)
    assert out.total.item() == pytest.approx(out.clip.item() + 3 * 0.8 * 0.5, rel=1e-5)


def test_the_two_forms_agree_on_what_is_best():
    cosine = jnp.linspace(-1, 1, 21)
    for form in directional.FORMS:
        values = directional.clip_loss(cosine, form=form)
        assert (np.diff(values) < 0).all() and abs(float(values[-1])) < 1e-6
    wrong = directional.clip_loss(jnp.full(1, -1.0), form="code")
    assert wrong.item() == pytest.approx(-np.log(1e-6), rel=1e-4)
    with pytest.raises(UneError, match="form is 'ours'; use one of paper, code"):
        directional.require("ours")


def test_s_dir_knows_neither_length_nor_place():
    a, b, text = jax.random.normal(jax.random.key(0), (3, 4, 3))
    found = directional.s_dir(a, b, text[0])
    again = directional.s_dir(3 * a, 7 * b, 0.2 * text[0])
    np.testing.assert_allclose(found, again, rtol=1e-5, atol=1e-6)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    wanted = unit(unit(b) - unit(a)) @ unit(text[0])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_ways_to_say_a_text_are_averaged():
    found = directional.said(jnp.stack([2 * E[0], 9 * E[1]]))
    np.testing.assert_allclose(found, [2**-0.5, 2**-0.5, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", directional.FORMS)
def test_an_image_that_does_not_move_has_a_finite_gradient(form):
    def total(edited):
        image = jnp.zeros((1, 2, 2, 3))
        return directional.loss(image, image, edited, E[:1], E[0], E[2], form=form).total.sum()  # fmt: skip

    assert directional.s_dir(E[:1], E[:1], E[2] - E[0]).item() == 0
    slope = jax.jit(jax.grad(total))(E[:1])
    assert np.isfinite(slope).all() and slope[0, 2] < 0  # towards the target


def test_under_vmap_it_is_each_images_own():
    a, b = jax.random.normal(jax.random.key(1), (2, 5, 3))
    alone = jax.vmap(lambda a, b: directional.s_dir(a[None], b[None], E[0])[0])(a, b)
    np.testing.assert_allclose(alone, directional.s_dir(a, b, E[0]), rtol=1e-5, atol=1e-6)  # fmt: skip
