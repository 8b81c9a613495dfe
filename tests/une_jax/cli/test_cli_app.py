"""``une-jax app``: what it refuses, and the whole of it on a real pipeline."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from une_jax import zoo
from une_jax.cli import app
from une_jax.cli.generator import generator_of_view


def test_without_gradio_it_says_what_to_install(run, built, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "gradio" else find(name, *a),
    )
    ran = run("app", built)
    assert ran.code == 1
    assert ran.errors == ["the app needs gradio: pip install 'une-jax[app]'"]


@pytest.mark.parametrize(
    "args, says",
    [
        (("--port", 70000), "--port 70000: use 0 to 65535"),
        (("--view", "eyes"), "--view eyes: .* has the generator views tiny"),
        (("--images", "nowhere"), "nowhere"),
        (("--judge", "tiny"), "--judge tiny: .* has the encoder views eyes"),
        (("--judge", "eyes=nowhere"), "--judge eyes: 'nowhere' is neither a folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run, built, args, says):
    ran = run("app", built, *args)
    assert ran.code == 1
    assert len(ran.errors) == 1 and re.search(says, ran.errors[0]), ran.errors


def test_one_picture_is_not_padded_to_a_strip(built, tiny):
    view = next(v for v in zoo.open(built).manifest.views if v.kind == "generator")
    coder = app._coder(view, str(tiny))
    devices = coder.one.mesh.size
    assert coder.one.batch_size == devices and coder.many.batch_size >= app.STRIP
    x = zoo.open(built)[view.name][: devices + 1]
    origin = {view.name: x}
    moves = np.eye(1, x[0].size, dtype=np.float32)
    amounts = np.linspace(-2, 2, 2 * len(x), dtype=np.float32).reshape(-1, 2, 1)
    whole = generator_of_view(view, str(tiny)).edit(origin, moves, amounts)
    np.testing.assert_array_equal(coder.edit(origin, moves, amounts), whole)
    one = coder.edit({view.name: x[:1]}, moves, amounts[:1, :1])
    # Another batch size is another program: equal but for rounding to a level.
    assert abs(one[0, 0].astype(int) - whole[0, 0]).max() <= 1


def test_an_upload_is_inverted_as_the_zoos_images_were(built, tiny, faces):
    from une_jax import images

    opened = zoo.open(built)
    view = next(v for v in opened.manifest.views if v.kind == "generator")
    coder = app._coder(view, str(tiny))
    image = images.decode(faces / "img_align_celeba" / opened.keys[3])
    out = coder.compute(coder.prepare(image)[None], np.zeros(1, int))
    stored = opened[view.name][3]
    np.testing.assert_allclose(out.arrays[view.name][0], stored, atol=1e-3)


@pytest.mark.slow
def test_it_serves_edits_until_it_is_told_to_end(built, tiny, eyes, faces):
    pytest.importorskip("gradio", reason="needs the extra: pip install 'une-jax[app]'")
    command = [
        *(sys.executable, "-m", "une_jax", "app", str(built), "--port", "0", "--json"),
        *("--generator", str(tiny), "--judge", f"eyes={eyes}"),
        *("--images", str(faces / "img_align_celeba")),
    ]
    quick = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=quick,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        if not said:
            pytest.fail(process.stderr.read())
        url = json.loads(said)["url"]
        with urllib.request.urlopen(url, timeout=20) as page:
            assert page.status == 200 and b"une-jax" in page.read()
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
        assert process.wait(30) == 143
    assert "app: ready after" in told and "an edit takes" in told
    assert "terminated" in told and "Traceback" not in told
