"""The whole main job on the shipped models, as a subprocess, few faces and steps."""

import json
import subprocess
import sys

import pytest

from une_jax import miniature, zoo
from une_jax.cli.demo import ATTRIBUTES_SHOWN


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "une_jax", "demo", "--json"]
    ran = subprocess.run(
        [*command, "--out", str(out), "--n", "40", "--steps", "4"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return out, json.loads(ran.stdout)


def test_it_leaves_a_sound_zoo_of_every_view(demo):
    out, _ = demo
    assert zoo.verify(out / "zoo") == []
    opened = zoo.open(out / "zoo")
    noise = [
        f"{g}{end}" for g in miniature.GENERATORS for end in ("", ".x0", ".forward")
    ]
    assert opened.views == (*noise, *miniature.ENCODERS)
    assert opened.rows.num_rows == 40


def test_it_says_where_the_report_is_and_the_edits_are_in_it(demo):
    out, result = demo
    assert result["report"] == str(out / "report" / "index.html")
    page = (out / "report" / "index.html").read_text()
    for name in ATTRIBUTES_SHOWN:
        assert (out / "report" / f"edit_{name}_plain.png").is_file()
        assert name.replace("_", " ") in page


def test_it_measures_what_a_trained_model_can_do(demo):
    _, result = demo
    for name in miniature.GENERATORS:
        assert result[f"{name} vae_psnr_db"] > 29
        # In four steps; 50 reach the VAE's, within a decibel.
        assert result[f"{name} round_trip_psnr_db"] > 22
