"""Roads between planted latents: what linear maps carry is known beforehand."""

import hashlib

import numpy as np
import planted_zoo
import pytest

from une_jax.effect import Reading
from une_jax.errors import UneError
from une_jax.report.judges import Judge
from une_jax.report.roads import (
    carried,
    claims,
    drawn,
    journeys,
    pairs,
    pictures,
    rows,
    study,
)
from une_jax.report.roads.pairs import How
from une_jax.report.roads.places import ITSELF, MEAN, RANDOM, Place, where

N, D, SIZE = 240, 6, 16
FAMILIES = {"a": "VAE", "b": "flow", "c": "GAN", "d": "VQVAE"}
TURN = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]
DEAF = np.random.default_rng(2).standard_normal((N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def z():
    return np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def opened(z, tmp_path_factory):
    """Views a, b and d are turns of one another; c has nothing to do with them."""
    arrays = {"a": z, "b": (3 * z @ TURN + 1).astype(np.float32), "c": DEAF}
    arrays["d"] = (z @ TURN.T - 2).astype(np.float32)
    views = tuple(planted_zoo.latent(n, D, family=FAMILIES[n]) for n in arrays)
    digests = [hashlib.sha256(bytes([i])).hexdigest() for i in range(N)]
    labels = {"Smiling": z[:, 0] > 0, "Male": z[:, 1] > 0.5}
    folder = tmp_path_factory.mktemp("roads") / "zoo"
    return planted_zoo.write(folder, views, arrays, labels, sha256s=digests)


@pytest.fixture(scope="module")
def place(opened, z):
    return Place(
        name="images",
        zoo=opened,
        rows=rows.choose(opened),
        scores=z[:, :2],
        originals=lambda at, size: painted(z[at]),
    )


@pytest.fixture(scope="module")
def stitched(place):
    how = How(families=FAMILIES)
    asked = ("Smiling",)
    found = pairs.stitch((place,), "abc", "abc", how, keep=20, attributes=asked)
    return {(s.source, s.target): s for s in found}


@pytest.fixture(scope="module")
def studied(place):
    """Of a and b, whose decoders paint what z is."""

    def load(target):
        return pictures.Decoder(SIZE, lambda x: painted(back(target, x)))

    judge = Judge(
        name="grey",
        names=("Smiling", "Male"),
        own=np.zeros((2, 1)),
        size=SIZE,
        reads=lambda x: Reading(seen(x), np.zeros((len(x), 1))),
    )
    eyes = pictures.Eyes(features={"raw": lambda x: seen(x)}, judge=judge)
    wanted = study.Wanted(
        sources="abc",
        targets="ab",
        how=How(families=FAMILIES),
        pictures=24,
        attributes=("Smiling",),
    )
    told = []
    found = study.run((place,), wanted, load, eyes, lambda *at: told.append(at))
    assert [phase for phase, part in told if part == 1] == ["maps", "journeys", "pictures"]  # fmt: skip
    return found


def back(view, x):
    return x if view == "a" else ((x - 1) / 3) @ TURN.T


def painted(z):
    """Two patches as bright as the first two of z, on grey."""
    out = np.full((len(z), SIZE, SIZE, 3), 128, np.uint8)
    level = np.clip(128 + 30 * z[:, :2], 0, 255).astype(np.uint8)
    out[:, :8] = level[:, None, None, :1]
    out[:, 8:] = level[:, None, None, 1:]
    return out


def seen(x):
    x = np.asarray(x, np.float32)
    return np.stack([x[:, :8].mean((1, 2, 3)), x[:, 8:].mean((1, 2, 3))], 1) / 30


def of(found, source, target):
    return next(r for r in found if (r["source"], r["target"]) == (source, target))


def test_the_three_sets_of_images_have_none_in_common(opened):
    chosen = rows.choose(opened)
    whole = np.concatenate(chosen)
    assert len(set(whole.tolist())) == len(whole) == N
    assert set(chosen.tests) == set(opened.split("test"))
    assert len(chosen.maps) == 2 * len(chosen.probes)
    fewer = rows.choose(opened, maps=20, probes=12, tests=5)
    assert list(map(len, fewer)) == [20, 12, 5]


def test_too_few_images_are_refused(opened):
    with pytest.raises(UneError, match=r"2 rows for tests, where 4 are needed"):
        rows.choose(opened, tests=2)
    with pytest.raises(UneError, match=r"has 192 train and 48 test rows of different files, too few for 190"):  # fmt: skip
        rows.choose(opened, maps=190, probes=90)


def test_the_same_bytes_are_one_image(z, tmp_path):
    """Whatever they are called: no twin of a map's image is a test's."""
    digests = [hashlib.sha256(bytes([i // 2])).hexdigest() for i in range(N)]
    views = (planted_zoo.latent("a", D),)
    zoo = planted_zoo.write(tmp_path / "zoo", views, {"a": z}, {}, sha256s=digests)
    whole = np.concatenate(rows.choose(zoo))
    assert len(whole) == N / 2 == len({digests[i] for i in whole})


def test_rows_are_drawn_and_not_cut(opened):
    """A zoo sorted by person or by class has all of them in every set."""
    chosen = rows.choose(opened)
    for part in chosen:
        assert part.min() < 0.2 * N and part.max() > 0.8 * N
        assert (np.diff(part[:10]) < 0).any()
    np.testing.assert_array_equal(chosen.tests, rows.choose(opened).tests)


def test_what_is_linear_arrives_and_what_is_not_does_not(stitched):
    for pair in (("a", "b"), ("b", "a")):
        row = stitched[pair].row
        assert row["latent R²"] > 0.999 and row["match"] > 0.97 and row["kappa"] > 0.9
        assert row["kappa low"] <= row["kappa"] <= row["kappa high"]
        assert row["rank"] == D or row["rank"] == D - 1
    for pair in (("c", "a"), (RANDOM, "a"), (MEAN, "a")):
        row = stitched[pair].row
        assert row["latent R²"] < 0.1 and row["kappa"] < 0.3, pair
    own = stitched[ITSELF, "a"].row
    assert own["latent MSE"] == 0 and own["match"] == own["kappa"] == 1
    assert own["accuracy change, %"] == 0


def test_latent_errors_are_in_the_targets_own_units(stitched, place):
    y = place.latents("b").tests
    row = stitched[MEAN, "b"].row
    spread = np.square(y - place.latents("b").maps.mean(0)).mean()
    np.testing.assert_allclose([row["latent MSE"], row["mean's MSE"]], spread, rtol=1e-5)  # fmt: skip


def test_every_attribute_has_a_row_of_each_road(stitched):
    (smiling,) = [r for r in stitched["a", "b"].attributes if r["attribute"] == "Smiling"]  # fmt: skip
    assert smiling["own accuracy"] > 0.9 and smiling["mapped accuracy"] > 0.9
    assert smiling["match"] >= smiling["chance"]


def test_the_papers_protocol_takes_its_penalties(place):
    """From a flow to a diffusion model 50,000, from a VAE none; lasso on as many of each."""
    families = {"a": "pixel diffusion", "b": "flow", "c": "VAE"}
    how = How(paper=True, families=families)
    found = {
        (s.source, s.target): s.row
        for s in pairs.stitch((place,), "abc", "abc", how, keep=4)
    }
    alphas = {pair: row["alpha"] for pair, row in found.items()}
    assert alphas["b", "a"] == 50000 and alphas["a", "b"] == 5000
    assert alphas["a", "c"] == 100 and alphas["c", "a"] == 0
    # They belong to latents of another scale and many more rows: here they shrink.
    assert found["a", "b"]["latent R²"] < 0.2 < 0.9 < found[ITSELF, "a"]["own accuracy"]


def test_pairs_are_measured_where_both_have_latents(place):
    assert where("a", "b", (place,)) is place
    assert where("a", "elsewhere", (place,)) is None


def test_a_random_encoder_knows_which_image_it_is(place):
    first, again = place.latents(RANDOM), place.latents(RANDOM)
    np.testing.assert_array_equal(first.tests, again.tests)
    whole = np.concatenate(first)
    assert len(np.unique(whole[:, 0])) == len(whole)
    assert abs(whole.mean()) < 0.02 and abs(whole.std() - 1) < 0.02


def test_by_way_of_a_third_costs_nothing_where_all_is_linear(place):
    how = How(families=FAMILIES)
    found = list(pairs.stitch((place,), "abcd", "abcd", how, keep=20))
    ways = {(r["source"], r["via"], r["target"]): r for r in journeys.table(found, how)}
    assert len(ways) == 4 * 3 * 2
    for way in (("a", "b", "d"), ("d", "a", "b"), ("b", "d", "a")):
        assert ways[way]["composed R²"] > 0.999 and abs(ways[way]["lost"]) < 1e-3
    assert ways["a", "c", "b"]["lost"] > 0.9  # by way of what is deaf


def test_what_no_road_tells_no_detour_tells(studied):
    ways = {(r["source"], r["via"], r["target"]): r for r in studied.journeys}
    assert set(ways) == {("c", "b", "a"), ("c", "a", "b")}
    for row in ways.values():
        np.testing.assert_allclose(row["lost"], row["direct R²"] - row["composed R²"])
        assert row["composed R²"] < 0.1


def test_pictures_are_measured_on_every_road(studied):
    good, bad, own = (of(studied.pairs, s, "a") for s in ("b", RANDOM, ITSELF))
    assert own["rmse"] < 0.01 and own["factor R²"] > 0.98 and own["ssim"] > 0.99
    assert good["rmse"] < 0.02 and good["factor R²"] > 0.98
    assert bad["rmse"] > 5 * good["rmse"] and bad["factor R²"] < 0.4
    assert good["rmse low"] <= good["rmse"] <= good["rmse high"]
    assert good["luma R²"] > 0.95 > 0.3 > bad["luma R²"]
    assert good["reference"] == "original" and good["pictures"] == 24
    assert good["FID (raw, 2-d, 24)"] < bad["FID (raw, 2-d, 24)"]


def test_factors_are_told_one_by_one(studied):
    found = {(r["source"], r["attribute"]): r["R²"] for r in studied.factors if r["target"] == "a"}  # fmt: skip
    assert found["b", "Smiling"] > 0.95 and found["b", "Male"] > 0.95
    assert found[MEAN, "Smiling"] < 0.01


def test_an_edit_goes_along_the_map(studied):
    """A direction of the other model does what the target's own does; a random one not."""
    rows_ = {r["direction of"]: r for r in studied.carried["a", "Smiling"].rows}
    own, other, random = (rows_[k] for k in (carried.OWN, "b", carried.RANDOM))
    assert own["change, sd"] > 2 and own["cosine to own"] == pytest.approx(1)
    assert other["change, sd"] == pytest.approx(own["change, sd"], rel=0.1)
    assert other["cosine to own"] > 0.95
    assert abs(random["change, sd"]) < 0.8 * own["change, sd"]
    assert set(studied.carried) == {("a", "Smiling"), ("b", "Smiling")}


def test_geometry_and_colour_are_told_apart():
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (8, 12, 12, 3), np.uint8)
    grey = np.repeat(originals @ pictures.LUMA[:, None], 3, axis=-1)
    luma, chroma = pictures.geometry_and_colour(grey.astype(np.uint8), originals)
    assert luma > 0.99 and chroma < 0.2
    # A brighter image has the same colour differences.
    luma, chroma = pictures.geometry_and_colour(originals // 2 + 60, originals // 2)
    assert luma < 0.5 and chroma > 0.999
    assert pictures.geometry_and_colour(originals, originals) == (1, 1)


def test_a_grid_frames_what_is_its_own():
    image = np.full((8, 8, 3), 200, np.uint8)
    assert (drawn.framed(image)[0] == drawn.OWN).all()
    made = {("a", "b"): image, (ITSELF, "b"): image, ("b", "a"): image}
    assert drawn.grid(made, image)[1:4] == b"PNG"


def test_the_papers_statements_are_held_against_the_numbers(studied):
    found = claims.check(studied.pairs, studied.attributes, FAMILIES)
    said = {c.said.split()[0]: c for c in found}
    assert said["Gender"].agrees is None and "Smiling" in said["Gender"].here
    assert said["Stitched"].agrees is None  # no diffusion among them
    assert {row[""] for row in claims.table(found)} <= {"agrees", "does not agree", "open"}  # fmt: skip


def row(source, target, **numbers):
    return {"source": source, "target": target, "images": "images", **numbers}


@pytest.mark.parametrize("best, agrees", [("flow", True), ("VAE", False)])
def test_the_first_statement_is_about_the_best_encoders(best, agrees):
    """By the error as a part of a random encoder's on the same target."""
    errors = {"VAE": 0.9, "VQVAE": 0.5, "flow": 0.8} | {best: 0.4}
    table = [row(k, "t", rmse=v) for k, v in {**errors, RANDOM: 1.0}.items()]
    (claim, *_) = claims.check(table, [], {k: k for k in errors})
    assert claim.agrees is agrees


def test_one_model_in_two_views_is_no_road():
    table = [row("z", "eps", **{"same model": True, "accuracy change, %": 9.0})]
    table += [row("a", "b", **{"accuracy change, %": 0.0})]
    table += [row("b", "a", **{"accuracy change, %": float("nan")})]
    *_, gains = claims.check(table, [], {"a": "flow"})
    assert gains.agrees is False
    assert (
        "on 0 of 1 roads between generators, by +0.0 % at most (a to b)" in gains.here
    )


@pytest.mark.parametrize(
    "luma, chroma, agrees", [(0.5, 0.1, True), (0.02, 0.01, False), (-0.1, -0.5, False)]
)
def test_geometry_has_to_be_there_to_be_kept(luma, chroma, agrees):
    table = [row("a", "dm", **{"luma R²": luma, "chroma R²": chroma})]
    claim = claims.check(table, [], {"dm": "pixel diffusion"})[3]
    assert claim.agrees is agrees


@pytest.mark.parametrize("noise, agrees", [("Male", True), ("Smiling", False), (None, None)])  # fmt: skip
def test_gender_has_to_survive_from_diffusion_too(noise, agrees):
    table = [
        row(source, "t", attribute=name, kappa=0.9 if name == best else 0.3)
        for source, best in (("flow", "Male"), ("dm", noise))
        for name in ("Male", "Smiling")
        if best
    ] + [row("flow", "u", attribute="Male", kappa=0.9)] * 3  # fmt: skip
    claim = claims.check([], table, {"dm": "pixel diffusion"})[2]
    assert claim.agrees is agrees


def test_nothing_to_map_is_said(place):
    wanted = study.Wanted(sources="a", targets="a", how=How(families=FAMILIES))
    with pytest.raises(UneError, match="no view can be mapped to another"):
        study.run((place,), wanted, lambda _: None, pictures.Eyes(), lambda *_: None)
