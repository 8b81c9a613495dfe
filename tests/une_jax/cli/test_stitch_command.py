"""``une-jax stitch`` from the command line: two zoos, tiny models, one page."""

import csv
import json

import pytest
import tiny_families

SEED = 7
SPLIT = ("--maps", 10, "--probes", 9, "--tests", 5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    kinds = ("vq", "flow", "gan")
    return {name: tiny_families.WRITERS[name](folder / name) for name in kinds}


@pytest.fixture(scope="module")
def zoos(run, models, eyes, faces, tmp_path_factory):
    """Of faces, by a VQVAE, a flow and a CLIP; of a GAN's images, by it and the VQVAE."""
    folder = tmp_path_factory.mktemp("zoos")
    vq, flow, gan = (f"{name}={models[name]}" for name in ("vq", "flow", "gan"))
    painted = folder / "painted"
    for args in (
        ("build", "--images", faces, "--generator", vq, flow, "--encoder", f"eyes={eyes}", "--out", folder / "faces"),
        ("synthesize", "--generator", models["gan"], "--n", 24, "--seed", SEED, "--out", painted),
        ("build", "--images", painted, "--generator", vq, gan, "--seed", SEED, "--out", folder / "synthetic"),
    ):  # fmt: skip
        ran = run(*args)
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def named(models):
    views = {"vq": "vq", "flow": "flow", "flow.eps": "flow", "gan": "gan", "gan.z": "gan"}  # fmt: skip
    return ("--generator", *(f"{view}={models[name]}" for view, name in views.items()))


@pytest.fixture(scope="module")
def stitched(run, zoos, named, faces, eyes, tmp_path_factory):
    out = tmp_path_factory.mktemp("stitched") / "out"
    ran = run(
        *("stitch", zoos / "faces", "--synthetic", zoos / "synthetic", *named, *SPLIT),
        *("--images", faces, "--synthetic-images", zoos / "painted"),
        *("--truth", faces / "truth.safetensors", "--judge", "regressor"),
        *("--features", f"eyes={eyes}"),
        *("--source", "vq", "flow", "eyes", "gan", "--attribute", "Smiling"),
        *("--pictures", 4, "--out", out, "--json"),
    )
    assert ran.code == 0, ran.err
    return out, ran.json


def roads(result, images=("images", "synthetic")):
    return {(r["source"], r["target"]): r for r in result["pairs"] if r["images"] in images}  # fmt: skip


def test_every_ordered_pair_is_there_with_its_baselines(stitched):
    baselines = ("random", "mean", "itself")
    found = roads(stitched[1], ("images",))
    expected = {("flow", "vq"), ("eyes", "vq"), ("vq", "flow"), ("eyes", "flow")}
    assert set(found) == expected | {(a, b) for a in baselines for b in ("vq", "flow")}
    found = roads(stitched[1], ("synthetic",))
    expected = {("gan", "vq"), ("vq", "gan")}
    assert set(found) == expected | {(a, b) for a in baselines for b in ("vq", "gan")}
    assert {row["map rows"] for row in found.values()} == {10}


def test_each_road_has_its_numbers(stitched):
    found = roads(stitched[1])
    own = found["itself", "flow"]
    assert own["rmse"] < 0.01 and own["kappa"] == 1 and own["latent R²"] == 1
    for row in found.values():
        assert row["reference"] == "original" and row["pictures"] == 4
        assert 0 <= row["rmse"] <= 1 and row["rmse low"] <= row["rmse high"]
        assert -1 <= row["ssim"] <= 1 and 0 <= row["factor R²"] <= 1
        assert row["KID (eyes) sd"] >= 0
    assert found["mean", "flow"]["rank"] is None and found["vq", "flow"]["rank"] >= 1
    assert found["vq", "gan"].get("kappa") is None  # the GAN's images have no labels


def test_tables_and_figures_lie_beside_the_page(stitched):
    out, result = stitched
    assert json.loads((out / "stitch.json").read_text()) == result
    page = (out / "index.html").read_text()
    assert "All roads" in page and "a random encoder" in page.replace("<", " <")
    with (out / "roads.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result["pairs"])
    for name in ("roads_rmse.png", "roads_rmse.svg", "roads_grid_images_0.png", "roads_grid_synthetic_0.png", "roads_attributes.csv", "roads_factors.csv", "roads_journeys.csv", "roads_edit_flow_Smiling.png", "roads_claims.csv"):  # fmt: skip
        assert (out / name).stat().st_size > 50, name
    assert {r["attribute"] for r in result["edits"]} == {"Smiling"}
    assert len(result["claims"]) == 6


def test_it_is_told_in_words_too(run, zoos, named, tmp_path):
    args = ("--source", "vq", "flow", "--pictures", 0, *SPLIT, "--out", tmp_path)
    ran = run("stitch", zoos / "faces", *named[:4], *args)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split()[:3] == ["from", "to", "images"]
    assert lines[-1] == f"page: {tmp_path / 'index.html'}"
    assert any(line.startswith("open: The flow's and the VQVAE's") for line in lines)


def test_another_kind_of_map(run, zoos, tmp_path):
    """A rotation; of rank 2; and the paper's penalties, of which these pairs have none."""
    base = ("stitch", zoos / "faces", "--source", "vq", "flow", "--pictures", 0, *SPLIT)
    ranks = {}
    for how in (("procrustes",), ("reduced_rank", "--rank", 2), ("ridge", "--paper")):
        ran = run(*base, "--kind", *how, "--out", tmp_path / how[0], "--json")
        assert ran.code == 0, ran.err
        ranks[how[0]] = roads(ran.json)["vq", "flow"]
    assert ranks["reduced_rank"]["rank"] <= 2 < ranks["procrustes"]["rank"]
    assert ranks["ridge"]["alpha"] == 0


@pytest.mark.parametrize(
    "args, why",
    [
        (("--source", "sd"), "--source sd: there are the views vq, flow, flow.eps, eyes"),
        (("--target", "eyes"), "--target eyes: it cannot be decoded to images; those that can: vq, flow, flow.eps"),
        (("--source", "eyes"), "none of eyes can be decoded: build the zoo with --generator"),
        (("--source", "vq", "--target", "vq", "--pictures", "0"), "no view can be mapped to another"),
        (("--maps", "3"), "3 rows for maps, where 8 are needed"),
        (("--maps", "0"), "--maps 0: use 1 or more"),
        (("--pictures", "1"), "--pictures 1: use 0 for none, or 2 or more"),
        (("--kind", "reduced_rank"), "--kind reduced_rank: say which with --rank"),
        (("--rank", "2"), "--rank is of --kind reduced_rank"),
        (("--paper", "--kind", "ols"), "--paper has penalties for --kind ridge alone"),
        (("--generator", "vq"), "--generator vq: write VIEW=PATH_OR_ID with one of vq"),
        (("--images", "nowhere"), "--images nowhere: there is nothing"),
        ((), "view 'vq': 'vq' is neither a folder nor a built-in name"),
        (("--synthetic-images", "."), "--synthetic-images needs --synthetic ZOO"),
        (("--attribute", "Smilling"), "unknown attribute 'Smilling'; did you mean Smiling?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(run, zoos, tmp_path, args, why):
    split = () if "--maps" in args else SPLIT
    ran = run("stitch", zoos / "faces", *split, *args, "--out", tmp_path / "out")
    assert ran.code == 1 and why in ran.errors[0]
    assert not (tmp_path / "out").exists()


def test_images_of_another_zoo_are_refused(run, zoos, tmp_path):
    where = ("--images", zoos / "painted", "--out", tmp_path / "out")
    ran = run("stitch", zoos / "faces", *SPLIT, *where)
    assert ran.code == 1 and "not among the images in" in ran.errors[0]


def test_the_report_has_a_section_of_them(run, zoos, named, faces, tmp_path):
    args = ("--only", "roads", "--images", faces)
    args += ("--truth", faces / "truth.safetensors", "--judge", "regressor")
    ran = run("report", zoos / "faces", *args, *named[:4], "--out", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["left_out"] == {}
    page = (tmp_path / "index.html").read_text()
    assert '<section id="roads"><h2>All roads</h2>' in page
    assert (tmp_path / "roads_rmse.svg").is_file()


def test_a_report_without_such_latents_says_so_when_asked(run, built, tmp_path):
    ran = run("report", built, "--only", "roads", "--out", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert "no VAE, VQVAE, flow, pixel diffusion or GAN" in ran.json["left_out"]["roads"]  # fmt: skip


def test_features_are_an_encoders(run, zoos, named, tmp_path):
    args = (*named[:4], *SPLIT, "--features", "vq", "--out", tmp_path / "out")
    ran = run("stitch", zoos / "faces", *args)
    assert ran.code == 1 and "has no such encoder view" in ran.errors[0]


def test_zoos_of_different_models_are_refused(run, zoos, models, named, tmp_path):
    """By one name, but other weights."""
    other = tiny_families.write_vq(tmp_path / "vq", seed=9)
    specs = (f"vq={other}", f"gan={models['gan']}")
    ran = run("build", "--images", zoos / "painted", "--generator", *specs, "--seed", SEED, "--out", tmp_path / "zoo")  # fmt: skip
    assert ran.code == 0, ran.err
    args = ("--synthetic", tmp_path / "zoo", *named, *SPLIT)
    ran = run("stitch", zoos / "faces", *args, "--out", tmp_path / "out")
    assert ran.code == 1 and "view 'vq' of the synthetic zoo is of another model" in ran.errors[0]  # fmt: skip
