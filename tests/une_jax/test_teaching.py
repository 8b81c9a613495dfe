"""What a zoo teaches of a known mixture: directions, what they cost, who refuses them."""

import jax
import numpy as np
import planted_zoo
import pytest

from une_jax import directions, images
from une_jax.errors import UneError
from une_jax.report import teaching

N, D = 600, 20
NAMES = ("Beard", "Male", "Never", "Young")
RNG = np.random.default_rng(0)
# Scores of which the first two go together; noise is a linear look at them, and more.
SCORES = RNG.multivariate_normal(
    np.zeros(4), [[1, 0.6, 0, 0], [0.6, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], N
)
LOOK = RNG.standard_normal((4, D))
NOISE = (SCORES @ LOOK + 0.1 * RNG.standard_normal((N, D))).astype(np.float32)
CLIP = (SCORES @ RNG.standard_normal((4, 6))).astype(np.float32)
LABELS = SCORES > np.array([0, 0, np.inf, 0])  # nobody has "Never"
GENERATOR, ENCODER = planted_zoo.generator(1, 4, 5, steps=50), planted_zoo.encoder(6)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return planted_zoo.write(
        tmp_path_factory.mktemp("zoo") / "zoo",
        (GENERATOR, ENCODER),
        {"sd": NOISE.reshape(N, 1, 4, 5), "clip": CLIP},
        {name: LABELS[:, j] for j, name in enumerate(NAMES)},
    )


@pytest.fixture(scope="module", params=teaching.METHODS)
def taught(request, opened):
    scores = SCORES if request.param == "ridge" else None
    return teaching.teach(opened, "sd", method=request.param, scores=scores)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_every_attribute_that_was_seen_has_a_direction_that_reads_it(taught):
    assert taught.names == ("Beard", "Male", "Young")
    found = taught.directions
    # Means of classes that go together lie together: they read the other one as well.
    least = 0.6 if found.method["name"] == "means" else 0.9
    assert min(taught.auc.values()) > max(least, 0.8)
    said = found.scores(NOISE)
    for j, name in enumerate(taught.names):
        true = SCORES[:, NAMES.index(name)]
        assert np.corrcoef(said[:, j], true)[0, 1] > least
        move = found.moves[j] * found.spread[j]
        assert move @ found.readers[j] > 0  # more of it, not less
    np.testing.assert_allclose(np.linalg.norm(found.moves, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.spread, (taught.train @ found.moves.T).std(0), rtol=1e-4)  # fmt: skip
    np.testing.assert_allclose(
        found.length[:, None] * found.moves, found.readers, atol=1e-4
    )


def test_directions_say_where_they_are_from(opened, taught):
    found = taught.directions
    assert found.view == GENERATOR
    assert found.zoo == images.sha256(opened.path / "manifest.json")
    assert found.method["name"] in teaching.METHODS
    assert found.method["train_rows"] == len(taught.train) == 480


@pytest.mark.parametrize("how", teaching.KEEPINGS)
def test_what_is_kept_is_left_alone_as_its_way_promises(taught, how):
    plain, held = taught.held(["Beard"]), taught.held(["Beard"], ["Male"], how)
    male = taught.directions.readers[taught.directions.index("Male")]
    assert held.moves[0] @ held.readers[0] > 0
    if how == "erasure":  # no difference of the kept one's means along it
        x, has = taught.train, taught.labels[:, taught.directions.index("Male")]
        trace = np.cov(np.c_[x @ np.eye(D), has].T)[-1, :-1]
        whitened = np.linalg.solve(np.cov(x.T), trace)
        assert abs(held.moves[0] @ whitened) < 1e-2 * abs(plain.moves[0] @ whitened)
    else:
        assert abs(cosine(held.moves[0], male)) < 1e-4
    said = held.method
    assert said["keep"] == ["Male"] and said["how"] == how
    assert said["leak"]["Beard"][0] == pytest.approx(cosine(held.moves[0], male), abs=1e-4)  # fmt: skip
    own = cosine(held.moves[0], held.readers[0])
    assert said["left"]["Beard"] == pytest.approx(own, abs=1e-4)
    both = plain.moves[0], taught.directions.moves[1]
    assert said["cosines"]["Beard"][0][1] == pytest.approx(cosine(*both), abs=1e-4)
    np.testing.assert_allclose(held.spread, (taught.train @ held.moves.T).std(0), rtol=1e-4)  # fmt: skip


def test_the_ways_differ_and_euclidean_is_the_papers_equation_4(opened):
    taught = teaching.teach(opened, "sd")
    moves = [taught.held(["Beard"], ["Male"], how).moves[0] for how in teaching.KEEPINGS]  # fmt: skip
    w, v = taught.directions.readers[:2]
    np.testing.assert_allclose(moves[0], (u := w - v * (w @ v) / (v @ v)) / np.linalg.norm(u), atol=1e-5)  # fmt: skip
    assert max(abs(cosine(moves[0], other)) for other in moves[1:]) < 0.99
    # Where the data are Gaussian a good probe reads what the class means say.
    assert cosine(*moves[1:]) > 0.99
    held = taught.held(["Beard"], ["Male"])
    np.testing.assert_allclose(held.length, np.linalg.norm(u), rtol=1e-4)


def test_several_are_held_at_once_and_nothing_kept_changes_nothing(opened):
    taught = teaching.teach(opened, "sd")
    both = taught.held(["Young", "Beard"], ["Male"])
    assert both.names == ("Young", "Beard")
    one = taught.held(["Beard"], ["Male"])
    np.testing.assert_allclose(both.moves[1], one.moves[0], atol=1e-6)
    assert taught.held(["Young"]).method == taught.directions.method


def test_what_cannot_be_kept_is_an_error_that_says_so(opened):
    taught = teaching.teach(opened, "sd")
    with pytest.raises(UneError, match="Male is to be changed and kept"):
        taught.held(["Male"], ["Male"])
    with pytest.raises(UneError, match="unknown attribute 'Mal'; did you mean Male"):
        taught.held(["Beard"], ["Mal"])
    with pytest.raises(UneError, match="Male has no direction of its own in sd beside"):
        taught.hold(taught.held(["Male"]), ["Male"])
    other = teaching.teach(opened, "clip").held(["Beard"])
    with pytest.raises(UneError, match="weights_sha256"):
        taught.hold(other, ["Male"])


def test_entangled_names_the_closest_first(opened):
    taught = teaching.teach(opened, "sd", method="means")
    assert taught.entangled("Beard")[0] == "Male"
    assert len(taught.entangled("Beard", most=1)) == 1


def test_ridge_on_scores_needs_one_for_every_row(opened):
    with pytest.raises(UneError, match=r"scores have shape \(5, 4\) or hold NaN"):
        teaching.teach(opened, "sd", method="ridge", scores=SCORES[:5])
    wrong = np.where(np.arange(4) == 1, np.nan, SCORES)
    with pytest.raises(UneError, match="hold NaN"):
        teaching.teach(opened, "sd", method="ridge", scores=wrong)
    without = teaching.teach(opened, "sd", method="ridge")
    assert without.auc["Male"] > 0.9 and without.directions.method["scores"] == "0/1"


def test_a_direction_is_carried_to_where_the_other_view_has_it(opened):
    """A move in CLIP that changes one score arrives as noise that changes that one."""
    per_score = np.linalg.lstsq(SCORES, CLIP, rcond=None)[0]
    found = teaching.carried(opened, "clip", "sd", ["old"], -per_score[3:])
    assert found.view == GENERATOR and found.names == ("old",)
    change = np.linalg.lstsq(LOOK.T, found.moves[0], rcond=None)[0]
    assert change[3] < 0 and abs(change[3]) > 5 * np.abs(change[:3]).max()
    there = CLIP @ -per_score[3]  # as the encoder itself has it
    assert np.corrcoef(found.scores(NOISE)[:, 0], there)[0, 1] > 0.95
    held = teaching.teach(opened, "sd").hold(found, ["Male"], "conditional")
    assert abs(held.method["leak"]["old"][0]) < 1e-4
    with pytest.raises(
        UneError, match=r"vectors have shape \(1, 5\); clip needs \(1, 6\)"
    ):
        teaching.carried(opened, "clip", "sd", ["old"], per_score[3:, :5])


def test_the_control_goes_as_far_somewhere_else(opened):
    found = teaching.teach(opened, "sd").directions
    control = teaching.random_like(found, jax.random.key(0))
    assert control.names == found.names and control.method["name"] == "random"
    np.testing.assert_array_equal(control.spread, found.spread)
    np.testing.assert_allclose(np.linalg.norm(control.moves, axis=1), 1, rtol=1e-5)
    assert np.abs((control.moves * found.moves).sum(1)).max() < 0.8


def test_what_is_taught_can_be_saved_and_shared(opened, tmp_path):
    held = teaching.teach(opened, "sd").held(["Beard"], ["Male", "Young"])
    directions.save(tmp_path / "beard.safetensors", held)
    again = directions.load(tmp_path / "beard.safetensors")
    assert again.method == held.method and again.view == held.view
    np.testing.assert_array_equal(again.moves, held.moves)
