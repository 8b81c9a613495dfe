"""Edits of a generator whose every pixel is known, read by a judge who knows it too.

A latent is a linear look at four scores; the picture has a bar for each score, as bright
as it is high, and the judge reads the bars.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import directions, zoo
from une_jax.effect import Reading
from une_jax.errors import UneError
from une_jax.report import effects, judges, teaching

N, D = 2000, 12
NAMES = ("Beard", "Male", "Young", "Hat")
RNG = np.random.default_rng(0)
# Beard and Male go together, Hat with nothing.
CORRELATION = np.eye(4)
CORRELATION[0, 1] = CORRELATION[1, 0] = 0.6
CORRELATION[0, 2] = CORRELATION[2, 0] = -0.3
SCORES = RNG.multivariate_normal(np.zeros(4), CORRELATION, N)
LOOK = np.linalg.qr(RNG.standard_normal((D, 4)))[0].T * 3
NOISE = (SCORES @ LOOK + 0.1 * RNG.standard_normal((N, D))).astype(np.float32)
SEE = np.linalg.pinv(LOOK)  # scores = noise @ SEE
BRIGHT = 25  # of a standard deviation
ROWS = NOISE[:40]
STEPS = (-0.4, -0.2, 0.2, 0.4)

VIEW = zoo.View(
    name="sd",
    kind="generator",
    model_id="some/sd",
    weights_sha256="1" * 64,
    config={},
    shape=(1, 1, D),
    dtype="float32",
    settings={"steps": 50},
)


def paint(noise):
    """(n, D) latents -> (n, 8, 16, 3) images of four bars."""
    bars = 128 + BRIGHT * np.clip(noise @ SEE, -5, 5)
    columns = np.repeat(np.rint(bars), 4, axis=1)
    shape = (len(noise), 8, 16, 3)
    return np.broadcast_to(columns[:, None, :, None], shape).astype(np.uint8)


def edit(rows, moves, amounts):
    n, s, _ = amounts.shape
    moved = ROWS[rows][:, None] + amounts @ moves
    return paint(moved.reshape(n * s, D)).reshape(n, s, 8, 16, 3)


def read(images):
    bars = images[:, 0, ::4, 0].astype(np.float32)
    scores = jnp.asarray((bars - 128) / BRIGHT)
    return Reading(scores, scores[:, 2:] + 5)


JUDGE = judges.Judge(
    name="bars", names=NAMES, own=np.zeros((4, 2), np.float32), size=8, reads=read
)


def bar(rows, attribute):
    """Where an attribute is painted."""
    inside = np.zeros((len(rows), 8, 16), bool)
    at = NAMES.index(attribute)
    inside[:, :, 4 * at : 4 * at + 4] = True
    return inside


@pytest.fixture(scope="module")
def teacher():
    """Directions that read the scores exactly, as four perfect probes would."""
    readers = SEE.T.astype(np.float32)
    moves = readers / np.linalg.norm(readers, axis=1, keepdims=True)
    found = directions.Directions(
        names=NAMES,
        moves=moves,
        spread=(NOISE @ moves.T).std(0),
        length=np.linalg.norm(readers, axis=1),
        readers=readers,
        bias=np.zeros(4, np.float32),
        view=VIEW,
        zoo="0" * 64,
        method={"name": "by hand"},
    )
    return teaching.Teacher(
        directions=found,
        auc=dict.fromkeys(NAMES, 1.0),
        train=NOISE,
        labels=SCORES > 0,
        components=D,
    )


@pytest.fixture(scope="module")
def entangled(teacher):
    """The same, but what moves Beard also moves Male and Young, as probes' normals do."""
    own = teacher.directions
    moves = own.moves.copy()
    moves[0] = own.moves[0] + 0.7 * own.moves[1] - 0.4 * own.moves[2]
    moves[0] /= np.linalg.norm(moves[0])
    return dataclasses.replace(
        teacher, directions=dataclasses.replace(own, moves=moves)
    )


def measured(walks, **options):
    strips = effects.along(edit, 3.0)
    return effects.measure(
        strips, JUDGE, walks, STEPS, len(ROWS), length=3.0, **options
    )


def test_each_attribute_is_walked_in_each_way_that_it_has(entangled):
    walks = effects.walks_of(entangled, NAMES)
    keep = {walk.attribute: walk.keep for walk in walks}
    assert keep["Beard"] == ("Male", "Young") and keep["Hat"] == ()
    ways = {n: [w.way for w in walks if w.attribute == n] for n in NAMES}
    assert ways["Beard"] == list(effects.WAYS)
    assert ways["Hat"] == ["plain", "pattern", "random (control)"]
    for walk in walks:
        np.testing.assert_allclose(np.linalg.norm(walk.move), 1, rtol=1e-5)


def test_the_yardstick_is_walked_even_when_it_is_not_asked_for(entangled):
    walks = effects.walks_of(entangled, ["Beard"], ["conditional"])
    assert [walk.way for walk in walks] == ["plain", "conditional"]
    np.testing.assert_array_equal(walks[0].move, entangled.directions.moves[0])
    with pytest.raises(UneError, match="there is no way 'fast'; use plain, euclidean"):
        effects.walks_of(entangled, ["Beard"], ["fast"])
    with pytest.raises(UneError, match="Beard"):
        effects.walks_of(entangled, ["Bread"])


def test_the_pattern_is_the_way_the_rows_change_with_the_score(teacher):
    pattern = effects.walks_of(teacher, ["Beard"], ["pattern"])[1]
    gain = pattern.move @ SEE  # of every score
    np.testing.assert_allclose(gain / gain[0], [1, 0.6, -0.3, 0], atol=0.08)
    spread = (NOISE @ pattern.move).std()
    np.testing.assert_allclose(pattern.spread, spread, rtol=1e-4)


def test_random_directions_differ_between_attributes_and_follow_the_seed(teacher):
    def moves(seed):
        walks = effects.walks_of(teacher, NAMES, ["random (control)"], seed=seed)
        return np.stack([w.move for w in walks if w.way == "random (control)"])

    np.testing.assert_array_equal(moves(0), moves(0))
    assert np.abs(moves(0) - moves(1)).max() > 0.1
    products = moves(0) @ moves(0).T
    assert np.abs(products - np.eye(4)).max() < 0.95


def test_all_that_is_measured_is_what_the_bars_show(entangled):
    walks = effects.walks_of(entangled, ["Beard", "Hat"])
    found = measured(walks)
    assert found.attributes == ("Beard", "Hat") and found.ways == effects.WAYS
    shape = (len(walks), len(ROWS), len(STEPS))
    assert found.change.shape == (*shape, 4)
    for w, walk in enumerate(walks):
        gain = 3.0 * np.outer(STEPS, walk.move @ SEE)
        rounding = 1.01 / BRIGHT
        np.testing.assert_allclose(found.change[w], np.broadcast_to(gain, (40, 4, 4)), atol=rounding)  # fmt: skip
        own = NAMES.index(walk.attribute)
        np.testing.assert_array_equal(found.intended[w], found.change[w, :, :, own])
        others = np.delete(found.change[w], own, axis=-1)
        rms = np.sqrt((others**2).mean(-1))
        np.testing.assert_allclose(found.collateral[w], rms, atol=1e-5)


def test_what_is_kept_stays_and_plain_is_scored_on_the_same(entangled):
    walks = effects.walks_of(entangled, ["Beard"])
    found = measured(walks)
    kept = dict(zip([w.way for w in walks], found.kept.mean((1, 2)), strict=True))
    assert kept["plain"] > 0.1
    for way in ("euclidean", "conditional"):
        assert kept[way] < 0.2 * kept["plain"], way
    nothing = measured(effects.walks_of(entangled, ["Hat"]))
    assert np.isnan(nothing.kept).all()


def test_it_is_the_same_however_many_images_are_edited_at_once(entangled):
    walks = effects.walks_of(entangled, ["Beard", "Hat"])
    decoded = []
    whole = measured(walks, block=len(ROWS))
    parts = measured(walks, block=7, done=decoded.append)
    for field in dataclasses.fields(effects.Measured):
        one, other = (getattr(m, field.name) for m in (whole, parts))
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=field.name)
    # Six ways and three, four steps each, and the image as it is.
    assert sum(decoded) == len(ROWS) * (6 * 4 + 1 + 3 * 4 + 1)
    assert effects.block_of(512, walks, 4) == 2**28 // (25 * 512 * 512 * 3)
    assert effects.block_of(10_000, walks, 4) == 1


def test_outside_its_region_an_edit_of_one_bar_changes_nothing(teacher):
    walks = effects.walks_of(teacher, ["Hat"], ["random (control)"])
    for found in (measured(walks, regions=bar), measured(walks)):
        assert found.missed[0].max() == 0
        assert found.missed[1].mean() > 2e-5  # one in 255 would be 1.5e-5
    everything = measured(walks, regions=lambda rows, _: np.ones((len(rows), 8, 16), bool))  # fmt: skip
    assert np.isnan(everything.missed).all()


def test_the_region_is_that_of_the_first_walk(teacher):
    hat, male = effects.walks_of(teacher, ["Hat", "Male"], ["plain"])
    astray = dataclasses.replace(male, attribute="Hat", way="random (control)")
    for walks in ([hat, astray], [astray, hat]):
        first, second = measured(walks).missed
        assert first.max() == 0 and second.min() > 1e-4


def test_a_region_is_where_most_changes_and_of_a_given_size():
    squared = np.zeros((2, 3, 16, 16), np.float32)
    squared[0, :, 4:12, 4:12] = 1
    squared[1, 2, :4] = 1
    inside = effects.changed_most(squared)
    np.testing.assert_array_equal(inside.sum((1, 2)), 64)
    assert inside[0, 4:12, 4:12].all() and inside[1, :4].all()


def test_distances_are_between_the_image_as_it_is_and_the_edited_one(entangled):
    walks = effects.walks_of(entangled, ["Beard"])

    def apart(a, b):
        return np.abs(a.astype(float) - b).mean((1, 2, 3))

    found = measured(walks, distance=apart, block=16)
    assert found.distance is not None
    mean = np.abs(found.change).mean(-1) * BRIGHT
    np.testing.assert_allclose(found.distance, mean, rtol=1e-4)
    assert measured(walks).distance is None


def test_what_cannot_be_measured_is_said(teacher):
    walks = effects.walks_of(teacher, ["Hat"])
    blind = dataclasses.replace(JUDGE, names=("Beard", "Male", "Young", "Nose"))
    with pytest.raises(UneError, match="bars cannot judge Hat"):
        effects.measure(effects.along(edit), blind, walks, STEPS, 4)
    for steps in ((), (0.0,), (1.0, float("nan"))):
        with pytest.raises(UneError, match="give one number or more beside 0"):
            effects.measure(effects.along(edit), JUDGE, walks, steps, 4)
