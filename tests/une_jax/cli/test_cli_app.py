"""``une-jax app``: what it refuses, and the whole of it on a real pipeline."""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from une_jax import directions, images, zoo
from une_jax.app.pictures import Pictures
from une_jax.app.studio import Studio
from une_jax.app.wish import Wish
from une_jax.cli import app, hspace_given
from une_jax.cli.generator import generator_of_view
from une_jax.errors import UneError


@pytest.fixture(scope="module")
def inner(run, built, tiny, tmp_path_factory):
    """A file of directions of the pipeline's h."""
    file = tmp_path_factory.mktemp("h") / "inner.safetensors"
    ran = run("hspace", "fit", built, "--generator", tiny, "--out", file)
    assert ran.code == 0, ran.err
    return file


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
        (("--hspace", "nowhere"), "there is no file nowhere"),
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


def test_an_edit_in_h_is_what_its_command_does(
    run, built, tiny, faces, inner, tmp_path
):
    opened = zoo.open(built)
    view = next(v for v in opened.manifest.views if v.kind == "generator")
    inside = hspace_given.given([inner], [view])
    pictures = Pictures(opened, {view.name: lambda: app._coder(view, str(tiny))})
    studio = Studio(pictures, inside=inside)
    names = studio.spaces[f"{view.name}.h"].names()
    wish = Wish(view=view.name, space="h", amounts={names[0]: 40.0, names[1]: -20.0})
    image = faces / "img_align_celeba" / opened.keys[3]
    picture = pictures.upload(view.name, pictures.admit(image.read_bytes()))
    edited = studio.edit(picture, wish).after.astype(int)
    assert np.abs(edited - picture.back).max() > 3

    command = shlex.split(studio.at(wish).command(wish, str(image)) or "")
    out = tmp_path / "edited"
    ran = run(*command[1:-1], out, "--generator", tiny, "--json")
    assert ran.code == 0, ran.err
    made = np.asarray(images.decode(ran.json["images"][0])).astype(int)
    # Another batch size is another program: equal but for rounding to a level.
    assert np.abs(made - edited).max() <= 1


def test_a_file_goes_with_the_view_that_it_is_of(built, inner, tmp_path):
    view = next(v for v in zoo.open(built).manifest.views if v.kind == "generator")
    found = directions.load(inner)
    path, given = hspace_given.given([inner], [view])[view.name]
    assert path == inner and given.names == found.names

    def says(what, paths, *views):
        with pytest.raises(UneError, match=what):
            hspace_given.given(paths, views)

    says(f"it is of {view.name}; there is other here", [inner], changed(view, name="other"))  # fmt: skip
    says(f"inner.safetensors is of {view.name} too; give one", [inner, inner], view)
    says("weights_sha256 is", [inner], changed(view, weights_sha256="1" * 64))
    steps = view.settings | {"steps": 4}
    says("these directions are of 3 steps and .* has 4", [inner], changed(view, settings=steps))  # fmt: skip
    noise = tmp_path / "noise.safetensors"
    directions.save(noise, dataclasses.replace(found, view=changed(found.view, settings=view.settings)))  # fmt: skip
    says("directions of noise; give a file of `une-jax hspace fit`", [noise], view)


def changed(view, **changes):
    return dataclasses.replace(view, **changes)


def test_an_upload_is_inverted_as_the_zoos_images_were(built, tiny, faces):
    opened = zoo.open(built)
    view = next(v for v in opened.manifest.views if v.kind == "generator")
    coder = app._coder(view, str(tiny))
    image = images.decode(faces / "img_align_celeba" / opened.keys[3])
    out = coder.compute(coder.prepare(image)[None], np.zeros(1, int))
    stored = opened[view.name][3]
    np.testing.assert_allclose(out.arrays[view.name][0], stored, atol=1e-3)


@pytest.mark.slow
def test_it_serves_edits_until_it_is_told_to_end(built, tiny, eyes, faces, inner):
    pytest.importorskip("gradio", reason="needs the extra: pip install 'une-jax[app]'")
    command = [
        *(sys.executable, "-m", "une_jax", "app", str(built), "--port", "0", "--json"),
        *("--generator", str(tiny), "--judge", f"eyes={eyes}"),
        *("--images", str(faces / "img_align_celeba"), "--hspace", str(inner)),
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
