"""The scripts that print README's tables, on tiny models."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.torch, pytest.mark.slow]


def printed(script, *args):
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *args],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(text):
    """The rows of a table, each a list of cells; text around it does not count."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def lines(script, *args):
    """The rows of the one table that a script prints."""
    return cells(printed(script, *args))


def number(text):
    """The first number in a text."""
    return float(re.search(r"\d[\d.]*(?:e[+-]\d+)?", text)[0])


def test_parity_prints_the_distance_of_each_model():
    rows = lines("parity.py", "--models", "dinov3-l16", "lcm")
    assert [row[0] for row in rows] == ["DINOv3 L/16", "LCM_Dreamshaper_v7 UNet"]
    for row in rows:
        exact, half = (float(cell.split(" / ")[0]) for cell in row[2:4])
        assert exact < 2e-5 < half < 5e-2


def test_the_benchmark_prints_both_times_and_their_ratio():
    (row,) = lines("bench_models.py", "--tiny", "--models", "vae:1:64", "--runs", "1")
    label, shape, *_ = row
    assert (label, shape) == ("SD VAE, there and back", "1, 64")
    torch, ours, ratio, rate = (float(re.match(r"[\d.]+", c)[0]) for c in row[2:6])
    assert ratio > 0 and rate > 0 and torch >= 0 and ours >= 0


def inversion(*args):
    """bench_inversion's rows by stage, the distance of the noises, and by side and
    dtype (distance of x_T from float32's, round trip's error)."""
    once = ("--tiny", "--rounds", "1", "--compile-mode", "none")
    text = printed("bench_inversion.py", *once, *args)
    speed, said, qualities = re.split(r"^(In float32 .*)$", text, flags=re.MULTILINE)
    found = {side: [number(x) for x in rest] for side, *rest in cells(qualities)}
    return {stage: rest for stage, *rest in cells(speed)}, number(said[11:]), found


def test_the_inversion_benchmark_times_both_ways_and_compares_the_noise():
    stages, apart, found = inversion("--model", "sd21", "--steps", "2")
    assert list(stages) == ["inversion", "sampling"]
    for batch, torch, compiled, ours, ratio, *_ in stages.values():
        assert (batch, compiled) == ("1", "-")
        assert number(ratio) == pytest.approx(number(torch) / number(ours), rel=0.05)
    assert apart < 1e-5
    assert found["torch, float32"][0] == 0
    assert found["une-jax, float32"][0] < 1e-5


def test_the_inversion_benchmark_says_what_half_precision_costs():
    mini = str(ROOT / "une_jax/miniature/models/mini-sd15")
    half = ("--dtype", "bfloat16", "--vae-dtype", "float32")
    stages, apart, found = inversion("--pipeline", mini, "--steps", "5", *half)
    assert list(stages) == ["VAE encoding", "inversion", "sampling", "image to noise"]
    parts = number(stages["VAE encoding"][3]) + number(stages["inversion"][3])
    assert number(stages["image to noise"][3]) == pytest.approx(parts, rel=0.01)
    assert apart < 1e-5
    exact, rough = found["une-jax, float32"], found["une-jax, bfloat16"]
    assert exact[0] < 1e-5 < 1e-3 < rough[0] < 0.05
    # Trained weights: five steps already come back to much of the image.
    assert rough[1] == pytest.approx(exact[1], rel=0.1) and exact[1] < 0.2


def test_a_model_of_no_such_name_is_refused():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "parity.py"), "--models", "sd14"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no model 'sd14': choose from sd15" in done.stderr
