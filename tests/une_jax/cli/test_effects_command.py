import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from ports import lpips
from une_jax import zoo
from une_jax.cli import effects as command
from une_jax.cli import eyes, judging, names
from une_jax.cli.generator import Settings, load_generator
from une_jax.errors import UneError

STEPS = (-0.5, 0.25, 0.5)


@pytest.fixture(scope="module")
def effects(run, built, tiny, eyes, tmp_path_factory):
    """The command's JSON, and the files that it wrote beside each other."""
    folder = tmp_path_factory.mktemp("effects") / "out"
    ran = run(
        *("effects", built, "--generator", tiny, "--judge", f"eyes={eyes}", "--json"),
        *("--attribute", "Smiling", "Male", "--how", "conditional", "--images", 3),
        *("--step", *STEPS, "--change", 0.01, "--batch-size", 8),
        *("--csv", folder / "t.csv", "--figure", folder / "f.svg"),
    )
    assert ran.code == 0, ran.err
    return ran.json, folder


def test_two_attributes_in_every_way_at_every_step(effects):
    result, _ = effects
    ways = ["plain", "conditional", "pattern", "random (control)"]
    for name in ("Smiling", "Male"):
        own = [row for row in result["table"] if row["attribute"] == name]
        assert [row["way"] for row in own] == ways
        assert len(own[0]["keep"].split()) == 3  # of 19 rows, all directions are close
        steps = [r for r in result["steps"] if r["attribute"] == name]
        assert [r["step"] for r in steps] == sorted(STEPS) * len(ways)
    assert result["judge"] == "eyes" and result["images"] == 3
    assert result["method_of_inversion"] == "ddim"
    assert [row["way"] for row in result["ways"]] == ways
    assert set(result["test_auc"]) == {"Smiling", "Male"}
    # An encoder's scores have no planted correlations that are known.
    assert {row["way"] for row in result["matrix"]} == set(ways)
    assert "planted share" not in result["table"][0]


def test_steps_are_in_mean_lengths_of_the_train_rows(effects, built):
    result, _ = effects
    opened = zoo.open(built)
    train = opened["tiny"][opened.split("train")].reshape(19, -1)
    length = np.linalg.norm(train, axis=1).mean()
    np.testing.assert_allclose(result["length"], length, rtol=1e-4)


def test_longer_steps_change_more(effects):
    rows = [r for r in effects[0]["steps"] if r["way"] == "random (control)"]
    for short, long in zip(rows[1::3], rows[2::3], strict=True):
        assert (short["step"], long["step"]) == (0.25, 0.5)
        assert 0 < short["collateral"] < long["collateral"]
        assert long["psnr outside"] < short["psnr outside"] < 60


def test_tables_and_figures_stand_beside_each_other(effects):
    result, folder = effects
    assert sorted(path.name for path in folder.iterdir()) == [
        *("f.svg", "f_attributes.svg", "f_matrix.svg"),
        *("t.csv", "t_matrix.csv", "t_steps.csv", "t_ways.csv"),
    ]
    for path, key in (("t", "table"), ("t_ways", "ways"), ("t_steps", "steps")):
        with (folder / f"{path}.csv").open(newline="") as stream:
            found = list(csv.DictReader(stream))
        assert len(found) == len(result[key]) and list(found[0]) == list(result[key][0])
    assert all(path.read_bytes()[:5] == b"<?xml" for path in folder.glob("*.svg"))


def test_images_are_those_of_the_generator_called_by_hand(built, tiny):
    opened = zoo.open(built)
    rows = opened.split("test")[:2]
    generator = load_generator(names.resolve(f"tiny={tiny}"), Settings(steps=3), rows=4)
    edit = command.editor(generator, opened, rows, "off")
    moves = np.eye(1, int(np.prod(generator.views[0].shape)), dtype=np.float32)
    amounts = np.array([[[0.0], [3.0]]] * 1, np.float32)
    found = edit(np.array([1]), moves, amounts)
    noise = np.repeat(np.asarray(opened["tiny"][rows[1:2]]), 2, axis=0).reshape(2, -1)
    noise[1, 0] += 3
    wanted = generator.decode(noise.reshape(2, *generator.views[0].shape))
    assert np.abs(found[0].astype(int) - wanted).max() <= 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """LPIPS with four random channels at each depth."""
    folder = tmp_path_factory.mktemp("lpips")
    rng, tensors, n_in = np.random.default_rng(0), {}, 3
    for i, (layer,) in enumerate(lpips.TRUNKS["alex"].stages):
        shape = (4, n_in, layer.kernel, layer.kernel)
        tensors[f"features.{layer.index}.weight"] = rng.standard_normal(shape)
        tensors[f"features.{layer.index}.bias"] = np.zeros(4)
        tensors[f"lin{i}.model.1.weight"] = np.ones((1, 4, 1, 1))
        n_in = 4
    tensors = {name: x.astype(np.float32) for name, x in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    config = {"architectures": ["LPIPS"], "backbone": "alex", "version": "0.1", "channels": [4] * 5}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_lpips_is_of_pairs_however_many(weights):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 70, 32, 32, 3), np.uint8)
    far = eyes.lpips_of(weights, 32)
    found = far(a, b)
    assert found.shape == (70,) and found.min() > 1e-3
    np.testing.assert_allclose(far(a, a), 0, atol=1e-6)
    np.testing.assert_allclose(far(a[-3:], b[-3:]), found[-3:], rtol=1e-4)


def test_images_that_lpips_cannot_compare_are_refused_before_editing(weights):
    with pytest.raises(UneError, match="--lpips: images of 16x16 pixels"):
        eyes.lpips_of(weights, 16)


def test_the_text_ends_with_what_it_means(run, built, tiny, eyes):
    ran = run(
        *("effects", built, "--generator", tiny, "--judge", f"eyes={eyes}"),
        *("--attribute", "Smiling", "--how", "euclidean", "--images", 2),
        *("--step", 0.2, "--change", 100),
    )
    assert ran.code == 0, ran.err
    assert "2 held-out images edited in tiny, judged by eyes" in ran.out
    assert "No plain edit reaches a change of 100 sd: give longer --step" in ran.out


def test_what_cannot_be_measured_is_said(run, built, tiny, faces, tmp_path):
    for options, problem in (
        (("--judge", "regressor"), "reads miniature faces of 64 pixels, and these images have 16"),
        (("--judge", "tiny"), "--judge tiny: choose one of regressor, eyes"),
        (("--judge", f"eyes={tiny}"), "--judge eyes:"),
        (("--judge", "eyes"), "say where it is with --judge eyes=PATH_OR_ID"),
        (("--attribute", "Smilling"), "Smiling"),
        (("--images", 1), "--images 1: use 2 or more"),
        (("--change", 0), "--change 0.0: use a number above 0"),
        (("--step", 0), "give one number or more beside 0"),
        (("--figure", "x.jpg"), "end its name in .png or .svg"),
        (("--truth", tmp_path / "none"), "is no file of true factors"),
        (("--truth", faces / "truth.safetensors"), "--truth says where attributes are in faces of 64 pixels"),
        (("--lpips", tmp_path / "none"), "none"),
        (("--batch-size", 0), "--batch-size 0: use 1 or more"),
        (("--view", "tiny", "eyes"), "give one view"),
    ):  # fmt: skip
        ran = run("effects", built, "--generator", tiny, *options)
        assert ran.code == 1 and problem in ran.errors[0], (options, ran.err)


def test_a_judge_of_other_attributes_is_refused(run, built, tiny, monkeypatch):
    judge = SimpleNamespace(name="other", names=("Tall",))
    monkeypatch.setattr(judging, "judge_of", lambda *given: judge)
    ran = run("effects", built, "--generator", tiny)
    assert ran.code == 1 and "other can judge no attribute" in ran.errors[0]
