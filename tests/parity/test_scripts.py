"""The scripts that print README's tables, on tiny models."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.torch, pytest.mark.slow]


def lines(script, *args):
    """The rows of the table that a script prints, each a list of cells."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *args],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


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


def test_a_model_of_no_such_name_is_refused():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "parity.py"), "--models", "sd14"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no model 'sd14': choose from sd15" in done.stderr
