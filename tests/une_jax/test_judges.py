"""Judges read pixels: the regressor of miniature faces, or an encoder's own probes."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_zoo
import pytest

from une_jax import effect
from une_jax.errors import UneError
from une_jax.miniature import factors, region, regressor, render
from une_jax.report import judges

N, D = 200, 6
NAMES = ("Beard", "Never", "Young")
RNG = np.random.default_rng(0)
LABELS = np.stack([RNG.random(N) < 0.5, np.zeros(N, bool), RNG.random(N) < 0.4], 1)
# The first and the last coordinate tell the two attributes; the mean is far from 0.
EMBEDDED = (RNG.standard_normal((N, D)) + 5).astype(np.float32)
EMBEDDED[:, 0] += 3 * LABELS[:, 0]
EMBEDDED[:, 5] += 3 * LABELS[:, 2]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return planted_zoo.write(
        tmp_path_factory.mktemp("zoo") / "zoo",
        (planted_zoo.encoder(D), planted_zoo.generator(1, 1, 2)),
        {"clip": EMBEDDED, "sd": np.zeros((N, 1, 1, 2), np.float32)},
        {name: LABELS[:, j] for j, name in enumerate(NAMES)},
    )


def look(images):
    """An encoder whose embedding is written into the first pixels of the picture."""
    return images[:, 0, :D, 0].astype(np.float32) / 10


def pictures(embeddings):
    images = np.zeros((len(embeddings), 8, 8, 3), np.uint8)
    images[:, 0, :D, 0] = np.rint(10 * np.asarray(embeddings))
    return images


@pytest.fixture(scope="module")
def encoder(opened):
    return judges.encoder_judge(opened, "clip", look)


def test_the_regressor_sees_what_it_sees_in_whole_parts_and_parts_of_them():
    truth = factors.draw(jax.random.key(3), 20)
    faces = np.asarray(render.faces(truth.scores, truth.nuisance))
    images = (faces * 255 + 0.5).astype(np.uint8)
    judge = judges.miniature_judge()
    found = judge(images)
    alone = regressor.apply(regressor.load(), jnp.asarray(images, jnp.float32) / 255)
    np.testing.assert_allclose(found.scores, alone.scores, atol=1e-4)
    np.testing.assert_allclose(found.identity, alone.nuisance, atol=1e-4)
    assert judge.names == factors.NAMES and not judge.own.any()
    np.testing.assert_allclose(judge(images[:3]).scores, found.scores[:3], atol=1e-5)
    with pytest.raises(UneError, match="reads images of 64 pixels, and these have 32"):
        judge(images[:, :32, :32])


def test_an_encoder_scores_in_deviations_of_the_train_rows(opened, encoder):
    assert encoder.names == ("Beard", "Young")  # nobody has "Never"
    train = EMBEDDED[opened.split("train")]
    found = encoder(pictures(train))
    np.testing.assert_allclose(np.asarray(found.scores).std(0), 1, atol=0.02)
    y = LABELS[opened.split("train")]
    for a, b in ((0, 0), (1, 2)):
        score = np.asarray(found.scores)[:, a]
        assert score[y[:, b]].mean() - score[~y[:, b]].mean() > 1
    np.testing.assert_allclose(np.linalg.norm(found.identity, axis=1), 1, rtol=1e-5)
    assert np.abs(np.asarray(found.identity).mean(0)).max() < 0.05


def test_an_edit_of_an_attribute_does_not_make_another_person(opened, encoder):
    """Along the attribute's own coordinate; along another it does."""
    train = EMBEDDED[opened.split("train")][:50]
    before = encoder(pictures(train))

    def identity(coordinate):
        moved = train.copy()
        moved[:, coordinate] += 4
        after = encoder(pictures(moved))
        found = effect.measure(before, after, 0, jnp.asarray(encoder.own[0]))
        return float(found.identity.mean()), float(found.intended.mean())

    same, more = identity(0)
    other, nothing = identity(2)
    assert more > 1 and abs(nothing) < 0.3
    assert same > 0.9 > 0.7 > other


def test_what_cannot_judge_is_refused(opened):
    with pytest.raises(UneError, match="is no encoder's"):
        judges.encoder_judge(opened, "sd", look)
    with pytest.raises(UneError, match="it has clip"):
        judges.encoder_judge(opened, "clop", look)


def test_a_region_is_where_the_paint_of_one_attribute_is():
    truth = factors.draw(jax.random.key(5), 8)
    hat, tie = (region.region(truth, n) for n in ("Wearing_Hat", "Wearing_Necktie"))
    assert hat.shape == (8, 64, 64) and hat.dtype == bool
    rows = np.arange(64)[None, :, None]
    middle = [float((rows * x).sum() / x.sum()) for x in (hat, tie)]
    assert middle[0] < 25 and middle[1] > 45  # above, and below the face
    assert not (hat & tie).any()
    # It does not depend on whether the attribute is there.
    bare = truth._replace(scores=truth.scores.at[:, 16].set(-3.0))
    assert (region.region(bare, "Wearing_Hat") == hat).mean() > 0.999
