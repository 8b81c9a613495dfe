"""A function of Asyrp's fits only where it learnt; a run goes on only with what it began."""

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts import train_asyrp
from scripts.asyrp import source
from scripts.asyrp.args import Args
from une_jax import asyrp, asyrp_files, zoo
from une_jax.errors import UneError

VIEW = zoo.View(
    name="sd",
    kind="generator",
    model_id="some/sd",
    weights_sha256="1" * 64,
    config={"a": 1},
    shape=(4, 8, 8),
    dtype="float32",
    settings={"steps": 3, "preprocessing": {"range": (-1, 1)}},
)
TIMES = [901, 451, 1]
ARGS = Args(source=("a face",), target=("a smile",), out=Path("f.safetensors"))
HASHES = {"generator sha256": "1", "judge sha256": "2", "zoo sha256": None}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f.safetensors"
    about = {"view": dataclasses.asdict(VIEW), "timesteps": TIMES}
    asyrp_files.save(path, asyrp.init(jax.random.key(0), 8), about)
    return path


@pytest.mark.parametrize("times", (TIMES, np.array(TIMES), jnp.array(TIMES)))
def test_it_fits_where_it_learnt(file, times):
    other = dataclasses.replace(VIEW, name="mine", config={})
    asyrp_files.require(asyrp_files.load(file), other, times)


@pytest.mark.parametrize(
    ("change", "times", "says"),
    (
        ({}, [901, 1], "learnt in 3 steps and the sampler has 2: .* asyrp.weights"),
        ({}, [901, 450, 1], "learnt at timestep 451 and the sampler has 450"),
        ({"weights_sha256": "2" * 64}, TIMES, "is of sd .some/sd. and does not fit sd: weights_sha256"),
        ({"shape": (4, 4, 4)}, TIMES, "shape is"),
        ({"settings": VIEW.settings | {"prompt": "a"}}, TIMES, "settings.prompt is 'a'"),
    ),
)  # fmt: skip
def test_elsewhere_it_is_refused_by_what_differs(file, change, times, says):
    view = dataclasses.replace(VIEW, **change)
    with pytest.raises(UneError, match=says):
        asyrp_files.require(asyrp_files.load(file), view, times)


@pytest.mark.parametrize("lacks", ("view", "timesteps"))
def test_one_that_does_not_say_what_it_is_of_is_refused(file, lacks):
    params, about = asyrp_files.load(file)
    about = {k: v for k, v in about.items() if k != lacks}
    with pytest.raises(UneError, match="does not say of which model"):
        asyrp_files.require(asyrp_files.Stored(params, about), VIEW, TIMES)


def test_the_script_shows_no_function_of_another_model(file):
    def run(view):
        rows = SimpleNamespace(t=jnp.array(TIMES))
        schedule = SimpleNamespace(sampling=rows)
        return SimpleNamespace(
            frozen=SimpleNamespace(schedule=schedule),
            generator=SimpleNamespace(views=(view,)),
        )

    found = train_asyrp.Run.learnt(run(VIEW), file)
    jax.tree.map(np.testing.assert_array_equal, found, asyrp_files.load(file).params)
    with pytest.raises(UneError, match="weights_sha256"):
        train_asyrp.Run.learnt(run(dataclasses.replace(VIEW, weights_sha256="2" * 64)), file)  # fmt: skip


@pytest.mark.parametrize("name", HASHES)
def test_a_run_with_other_weights_or_images_begins_anew(name):
    own = ARGS.folder(HASHES)
    assert ARGS.folder(dict(HASHES)) == own
    assert ARGS.folder(HASHES | {name: "3"}) != own
    assert dataclasses.replace(ARGS, rate=1e-2).folder(HASHES) != own
    assert dataclasses.replace(ARGS, held_out=2).folder(HASHES) == own


def test_what_a_run_is_named_after_is_read_from_the_models_and_the_zoo(monkeypatch, tmp_path):  # fmt: skip
    (tmp_path / "manifest.json").write_bytes(b"manifest")
    noise = np.zeros((3, 4, 2, 2), np.float32)

    class Opened(dict):
        def split(self, name):
            return np.arange(len(noise))

    settings = SimpleNamespace(prompt="")
    generator = SimpleNamespace(views=(VIEW,), settings=settings)
    monkeypatch.setattr(source.zoo, "open", lambda folder: Opened(sd=noise))
    monkeypatch.setattr(source.pictures, "generator_view", lambda *_: VIEW)
    monkeypatch.setattr(source, "generator_of_view", lambda *_, rows: generator)
    monkeypatch.setattr(source.inside, "require_plain", lambda generator: None)
    found = source.of_zoo(tmp_path, None, None, 2)
    judge = SimpleNamespace(loaded=SimpleNamespace(weights_sha256="2" * 64))
    assert train_asyrp.hashes(found, judge) == {
        "generator sha256": "1" * 64,
        "judge sha256": "2" * 64,
        "zoo sha256": hashlib.sha256(b"manifest").hexdigest(),
    }
