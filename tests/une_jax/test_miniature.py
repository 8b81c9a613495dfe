"""The miniature's truth, its painter and its captions."""

import doctest
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax.miniature import captions, factors, render
from une_jax.miniature.factors import BASE_RATES, CORRELATIONS, NAMES, THRESHOLDS

CAPTION_WORDS = {
    "Bangs": "bangs",
    "Big_Nose": "big nose",
    "Black_Hair": "black hair",
    "Blond_Hair": "blond hair",
    "Bushy_Eyebrows": "bushy eyebrows",
    "Chubby": "chubby",
    "Eyeglasses": "glasses",
    "Gray_Hair": "gray hair",
    "Male": " man",
    "Mouth_Slightly_Open": "mouth open",
    "Narrow_Eyes": "narrow eyes",
    "Pale_Skin": "pale skin",
    "Rosy_Cheeks": "rosy cheeks",
    "Smiling": "smiling",
    "Wearing_Earrings": "earrings",
    "Wearing_Hat": "hat",
    "Wearing_Lipstick": "lipstick",
    "Wearing_Necktie": "necktie",
    "Young": "young",
}


@pytest.fixture(scope="module")
def crowd():
    return jax.tree.map(np.asarray, factors.draw(jax.random.key(3), 20_000))


def test_scores_are_standard_normal_with_the_planted_correlations(crowd):
    """Within the lift that makes the planted matrix positive definite."""
    error = 1 / np.sqrt(20_000)
    np.testing.assert_allclose(crowd.scores.mean(0), 0, atol=4 * error)
    np.testing.assert_allclose(crowd.scores.std(0), 1, atol=4 * error)
    corr = np.corrcoef(crowd.scores.T)
    mixed = factors.MIXING @ factors.MIXING.T
    np.testing.assert_allclose(corr, mixed, atol=5 * error)
    np.testing.assert_allclose(np.diag(mixed), 1, atol=1e-6)
    planted = np.eye(len(NAMES))
    for (a, b), rho in CORRELATIONS.items():
        planted[NAMES.index(a), NAMES.index(b)] = rho
        planted[NAMES.index(b), NAMES.index(a)] = rho
    assert np.abs(mixed - planted).max() < 0.12
    assert np.linalg.eigvalsh(mixed).min() > 0.02


def test_attributes_are_scores_above_thresholds_at_their_base_rates(crowd):
    np.testing.assert_array_equal(crowd.attributes, crowd.scores > THRESHOLDS)
    rates = np.array([BASE_RATES[name] for name in NAMES])
    error = np.sqrt(rates * (1 - rates) / 20_000)
    assert (np.abs(crowd.attributes.mean(0) - rates) < 4 * error).all()
    assert sorted(NAMES) == list(NAMES)  # CelebA's order


def test_nuisance_is_the_rest_of_z_and_tells_nothing_about_attributes(crowd):
    a = len(NAMES)
    assert crowd.z.shape == (20_000, factors.DIM)
    np.testing.assert_array_equal(crowd.nuisance, crowd.z[:, a:])
    both = np.corrcoef(np.hstack([crowd.scores, crowd.nuisance]).T)
    assert np.abs(both[:a, a:]).max() < 5 / np.sqrt(20_000)
    np.testing.assert_allclose(np.cov(crowd.z.T), np.eye(factors.DIM), atol=0.04)


def test_a_face_is_the_same_whatever_is_drawn_with_it(crowd):
    part = factors.draw(jax.random.key(3), 7, start=40)
    np.testing.assert_array_equal(part.z, crowd.z[40:47])
    np.testing.assert_allclose(part.scores, crowd.scores[40:47], atol=1e-6)
    assert not np.array_equal(factors.draw(jax.random.key(4), 1).z[0], crowd.z[0])


@pytest.fixture(scope="module")
def truth():
    return factors.draw(jax.random.key(0), 4)


def test_faces_are_images_and_painted_the_same_every_time(truth):
    faces = render.faces(truth.scores, truth.nuisance, size=32)
    assert faces.shape == (4, 32, 32, 3) and faces.dtype == jnp.float32
    assert 0 <= faces.min() and faces.max() <= 1 and faces.std() > 0.1
    again = render.faces(truth.scores, truth.nuisance, size=32)
    np.testing.assert_array_equal(faces, again)
    assert all(np.abs(faces[0] - other).max() > 0.3 for other in faces[1:])


def test_every_attribute_changes_the_picture(truth):
    """Each flipped from -2 to +2, all others and the nuisance held."""
    middle = jnp.zeros(len(NAMES)).at[NAMES.index("No_Beard")].set(2.0)
    flips = jnp.stack(
        [middle.at[a].set(s) for a in range(len(NAMES)) for s in (-2.0, 2.0)]
    )
    nuisance = jnp.zeros((len(flips), len(factors.NUISANCES)))
    faces = np.asarray(render.faces(flips, nuisance)).reshape(len(NAMES), 2, -1)
    changed = np.abs(faces[:, 1] - faces[:, 0])
    for name, change in zip(NAMES, changed, strict=True):
        assert (change > 0.05).sum() > 90, name  # about 30 of 4096 pixels


def test_painting_is_differentiable_in_the_scores(truth, quick_compiles):
    """d pixels / d scores of a face with every score at its threshold."""

    def face(scores):
        return render.faces(scores[None], jnp.zeros((1, 12)), size=32)[0]

    jacobian = np.asarray(jax.jacfwd(face)(jnp.asarray(THRESHOLDS)))
    assert jacobian.shape == (32, 32, 3, len(NAMES))
    assert np.isfinite(jacobian).all()
    strongest = np.abs(jacobian).reshape(-1, len(NAMES)).max(0)
    assert (strongest > 0.01).all()  # every attribute shows


def test_painting_takes_vmap(truth, quick_compiles):
    def paint(scores, nuisance):
        return render.faces(scores, nuisance, size=32)

    pairs = jax.tree.map(lambda x: x.reshape(2, 2, -1), (truth.scores, truth.nuisance))
    mapped = jax.vmap(paint)(*pairs).reshape(4, 32, 32, 3)
    plain = paint(truth.scores, truth.nuisance)
    np.testing.assert_allclose(mapped, plain, atol=1e-5)


def attributes_of(*names):
    """One face with these attributes, and without a beard unless asked for."""
    return np.array([[name in names for name in NAMES]])


def test_the_captions_examples_are_true():
    for module in (captions, factors):
        failed, tried = doctest.testmod(module, extraglobs={"jax": jax})
        assert tried and not failed


@pytest.mark.parametrize("name", NAMES)
def test_captions_name_what_is_present_and_only_that(name):
    rng = np.random.default_rng(0)
    (without,) = captions.write(attributes_of("No_Beard"), rng)
    if name == "No_Beard":
        (bearded,) = captions.write(attributes_of(), rng)
        assert "beard" in bearded and "beard" not in without
        return
    (caption,) = captions.write(attributes_of("No_Beard", name), rng)
    word = CAPTION_WORDS[name]
    assert word in caption
    assert not re.search(rf"\b{word.strip()}\b", without)
    assert caption.startswith("a") and "  " not in caption


def test_captions_can_leave_everything_out(crowd):
    rng = np.random.default_rng(0)
    told = captions.write(crowd.attributes[:100], rng, mention=0.0)
    assert set(told) == {"a photo of a person"}


def test_captions_tell_a_part_of_what_they_could(crowd):
    """At mention 0.5, half the hats; and the articles are right."""
    hats = crowd.attributes[:, NAMES.index("Wearing_Hat")]
    faces = crowd.attributes[hats][:2000]
    told = captions.write(faces, np.random.default_rng(1), mention=0.5)
    assert 0.45 < np.mean(["a hat" in caption for caption in told]) < 0.55
    for caption in told:
        assert re.match(r"a photo of (an old|a (?!old))", caption), caption


def test_tags_are_a_sentences_phrases_in_any_order(crowd):
    rows = np.asarray(crowd.attributes[:50])

    def write(style, seed=0):
        return captions.write(rows, np.random.default_rng(seed), style=style)

    tags, orders = write("tags"), set()
    for tag, sentence in zip(tags, write("sentence"), strict=True):
        words = sentence.replace("wearing ", "").replace(" with ", ", ")
        words = words.replace(" and ", ", ").split(", ")
        bare = [w.removeprefix("a photo of ") for w in words]
        bare = [w.removeprefix("an ").removeprefix("a ") for w in bare]
        assert sorted(tag.split(", ")) == sorted(bare)
        orders.add(tag.split(", ").index(bare[0]))
    assert len(orders) > 2  # the person is not always first
    assert write("tags", seed=1) != tags
    assert write("tags") == tags
