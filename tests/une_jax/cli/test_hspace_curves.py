"""``une-jax hspace curves``: what is measured along the walk, and what is chosen by it."""

import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import images, zoo
from une_jax.cli import hspace_curves
from une_jax.cli.generator import generator_of_view
from une_jax.cli.layout import nchw, nhwc
from une_jax.report import hspace_curves as report


@pytest.fixture(scope="module")
def opened(built):
    return zoo.open(built)


@pytest.fixture(scope="module")
def generator(opened, tiny):
    return generator_of_view(opened.manifest.views[0], str(tiny))


@pytest.fixture(scope="module")
def pixels():
    return hspace_curves.Measure("rms", lambda x: x, hspace_curves._rms)


@pytest.fixture(scope="module")
def found(generator, opened, pixels):
    return hspace_curves.measured(generator, opened, opened.split("train")[:5], pixels)


def test_distances_are_from_the_image_that_the_noise_gives_back(
    found, generator, opened
):
    """The first x_t is the noise itself, and P_t what the UNet's eps says of it."""
    curves, strip = found
    noise = np.asarray(opened[generator.name][opened.split("train")[:5]], np.float32)
    schedule, unet, x = generator.walk_params["steps"], generator.sd.unet, nhwc(noise)
    t, row = schedule.sampling.t, schedule.sampling
    eps = unet.apply(unet.params, x, jnp.full(5, t[0]), generator.walk_params["cond"])
    alpha = np.float32(row.alpha_from[0])
    P = (x - np.sqrt(1 - alpha) * np.asarray(eps)) / np.sqrt(alpha)
    whole = generator.decode(noise).astype(np.float64) / 255
    for latents, measured in ((noise, curves.noisy), (nchw(P, "float32"), curves.predicted)):  # fmt: skip
        seen = generator.paint(latents) / 255
        wanted = np.sqrt(((whole - seen) ** 2).mean((1, 2, 3)))
        np.testing.assert_allclose(measured[:, 0], wanted, atol=0.5 / 255)
    assert curves.t.tolist() == t.tolist() == strip.t.tolist()
    np.testing.assert_array_equal(strip.noisy[0], generator.paint(noise[:1])[0])


def test_few_images_at_a_time_make_no_difference(
    found, generator, opened, pixels, monkeypatch
):
    monkeypatch.setattr(hspace_curves, "BUDGET", 1)
    rows = opened.split("train")[:5]
    one, _ = hspace_curves.measured(generator, opened, rows, pixels)
    np.testing.assert_allclose(one.predicted, found[0].predicted, atol=0.5 / 255)
    np.testing.assert_allclose(one.noisy, found[0].noisy, atol=0.5 / 255)


def test_the_command_writes_the_table_and_the_figure(run, built, tiny, tmp_path):
    out, csv = tmp_path / "deep/curves.png", tmp_path / "curves.csv"
    how = ("--generator", tiny, "--images", 4, "--distance", "pixels", "--csv", csv)
    ran = run("hspace", "curves", built, *how, "--out", out, "--json")
    assert ran.code == 0, ran.err
    said = ran.json
    assert said["distance"] == "rms of pixels" and said["images"] == 4
    assert images.decode(out).size[0] > 500
    lines = csv.read_text().splitlines()
    assert len(lines) == 1 + said["steps"] == 1 + len(said["table"])
    first, t = said["table"][0], said["t_edit"]
    assert t["threshold"] == pytest.approx(first["distance(x, P_t)"] * 0.33 / 1.1445)
    enough = [r["t"] for r in said["table"] if r["distance(x, P_t)"] >= t["threshold"]]
    assert t["t"] == min(enough)


def test_an_encoder_of_the_zoo_measures_by_default(run, built, tiny, eyes, tmp_path):
    how = ("--generator", tiny, "--images", 2, "--out", tmp_path / "a.svg")
    ran = run("hspace", "curves", built, *how, "--distance", f"eyes={eyes}", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["distance"] == "1 - cosine in eyes"
    assert all(0 <= r["distance(x, x_t)"] <= 2 for r in ran.json["table"])
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")


def test_texts_that_differ_lower_the_threshold(run, built, tiny, tmp_path):
    how = ("--generator", tiny, "--images", 2, "--distance", "pixels")
    text = ("--judge", "mini-clip-p8", "--source", "a photo of a man", "--target")
    found = []
    for target in ("a photo of a man", "a photo of a woman, smiling"):
        out = tmp_path / "curves.png"
        ran = run(
            "hspace", "curves", built, *how, "--out", out, *text, target, "--json"
        )
        assert ran.code == 0, ran.err
        found.append(ran.json)
    same, other = found
    assert same["cosine"] == pytest.approx(1, abs=1e-5) and other["cosine"] < 0.99
    lower = other["t_edit"]["threshold"] / same["t_edit"]["threshold"]
    assert lower == pytest.approx(other["cosine"], rel=1e-4)


def test_a_threshold_out_of_reach_is_said_and_the_curves_are_written(
    run, built, tiny, tmp_path
):
    out = tmp_path / "curves.png"
    how = ("--generator", tiny, "--images", 2, "--distance", "pixels", "--out", out)
    ran = run("hspace", "curves", built, *how, "--strength-threshold", 5)
    assert ran.code == 0 and out.exists()
    assert "there is no t_edit: distance(x, P_t) is at most" in ran.out


BAD = {
    "--images is 0; use 1 or more": ("--images", 0),
    "end its name in .png or .svg": ("--out", "curves.jpg"),
    "--distance nobody: choose one of pixels, eyes": ("--distance", "nobody"),
    "--strength-threshold is 0.0": ("--strength-threshold", 0),
    "--deficiency-threshold is -1.0": ("--deficiency-threshold", -1),
    "--cosine is 1.5; use": ("--cosine", 1.5),
    "give as many --target": ("--source", "a man"),
    "say which CLIP reads": ("--source", "a man", "--target", "a woman"),
    "--judge reads --source and --target": ("--judge", "mini-clip-p8"),
    "--lpips is a distance itself": ("--lpips", "folder", "--distance", "pixels"),
    "give one or the other": ("--source", "a", "--target", "b", "--cosine", 0.5),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_wishes_are_refused(run, built, tiny, tmp_path, message):
    out = () if "--out" in BAD[message] else ("--out", tmp_path / "curves.png")
    ran = run("hspace", "curves", built, "--generator", tiny, *out, *BAD[message])
    assert ran.code == 1 and not (tmp_path / "curves.png").exists()
    (error,) = ran.errors
    assert message in error


T = np.array([901, 601, 301, 1])
FAR = np.array([[0.9, 0.5, 0.3, 0.0], [1.1, 0.7, 0.3, 0.0]])


def test_what_is_chosen_is_of_the_mean_curve():
    curves = report.Curves(T, FAR, FAR, "made up")
    edit = report.choose_edit(curves)  # 0.288 of 1.0; of the second alone, of 1.1
    assert (edit.t, edit.low, edit.high) == (301, 301, 601)
    assert edit.threshold == pytest.approx(0.33 / 1.1445)
    assert report.choose_edit(curves, threshold=0.55).t == 601
    assert report.choose_edit(curves, threshold=0.55, cosine=0.5).t == 301
    assert report.choose_boost(curves).t == 901
    drawn = report.choose_edit(curves, threshold=0.55)  # of one image alone: 901
    assert drawn.low == 601 and drawn.high == 901
    none = report.choose_boost(curves, threshold=2.0)
    assert none.t is None and "never reaches 2" in none.why
    assert np.isnan(none.low)


def test_rows_and_figure_have_every_step():
    curves = report.Curves(T, FAR, FAR, "made up")
    table = report.rows(curves)
    assert [row["t"] for row in table] == T.tolist()
    assert [row["editing strength"] for row in table] == pytest.approx([0, 0.4, 0.7, 1])
    assert table[0]["its se"] == pytest.approx(0.1)
    strip = report.Strip(T, *np.zeros((2, 4, 8, 8, 3), np.uint8))
    none = report.choose_boost(curves, threshold=2.0)
    drawing = report.draw(curves, report.choose_edit(curves), none, strip)
    assert drawing.png.startswith(b"\x89PNG")
    assert b"t_edit 301" in drawing.svg and b"there is no t_boost" in drawing.svg
