"""scripts/measure_hspace.py on a tiny zoo: what it edits by, and that it ends."""

import csv
import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scripts import measure_hspace
from une_jax import asyrp, asyrp_files, zoo
from une_jax import hspace_properties as properties
from une_jax.cli import hspace_moves
from une_jax.cli.generator import generator_of_view
from une_jax.effect import Reading
from une_jax.errors import UneError
from une_jax.report import judges


@pytest.fixture(scope="module")
def files(run, built, tiny, tmp_path_factory):
    """Of directions, and of a function that has learnt nothing."""
    folder = tmp_path_factory.mktemp("h")
    means, learnt = folder / "means.safetensors", folder / "learnt.safetensors"
    ran = run("hspace", "fit", built, "--generator", tiny, "--out", means, "--json")
    assert ran.code == 0, ran.err
    view = zoo.open(built).manifest.views[0]
    generator = generator_of_view(view, str(tiny))
    times = np.asarray(generator.walk_params["steps"].sampling.t).tolist()
    about = {
        "view": dataclasses.asdict(generator.views[0]),
        "timesteps": times,
        "t_edit": times[1],
    }
    f = asyrp.init(jax.random.key(0), ran.json["h"][1])
    asyrp_files.save(learnt, f, about)
    return means, learnt


@pytest.fixture
def seen(monkeypatch):
    """A judge of the tiny pipeline's 16 pixels: the mean of each colour and half."""

    def reads(images):
        x = images.astype(np.float32) / 25
        scores = np.concatenate([x[:, :8].mean((1, 2)), x[:, 8:].mean((1, 2))], 1)
        return Reading(jnp.asarray(scores), jnp.asarray(scores))

    names = tuple("abcdef")
    judge = judges.Judge(name="colours", names=names, own=np.zeros((6, 6), np.float32), size=None, reads=reads)  # fmt: skip
    monkeypatch.setattr(judges, "miniature_judge", lambda: judge)


@pytest.fixture
def args(files, built, tiny, tmp_path):
    return measure_hspace.Args(
        zoo=built,
        directions=files,
        generator=str(tiny),
        attribute=("Male", "Smiling"),
        images=4,
        out=tmp_path / "found.png",
        csv=tmp_path / "found.csv",
    )


def test_it_measures_directions_and_functions(args, seen, capsys):
    measure_hspace.main(args)
    assert args.out.read_bytes().startswith(b"\x89PNG")
    table = list(csv.DictReader(io.StringIO(args.csv.read_text())))
    assert {row["of"] for row in table} == {"Male", "Smiling", "Male + Smiling", "f: learnt"}  # fmt: skip
    assert {row["claim"] for row in table} == {"homogeneous", "linear", "robust", "steady"}  # fmt: skip
    own = [row["number"] for row in table if row["of"] == "f: learnt"]
    assert "another image's move, slope" in own and "random groups, scores" not in own
    assert '"images": 4' in capsys.readouterr().out


def test_a_functions_moves_of_an_image_edit_it_as_the_function_does(args, seen):
    study = measure_hspace.Study(args)
    loaded = hspace_moves.load([args.directions[1]])
    steps = int((np.asarray(study.schedule.sampling.t) >= loaded.t_edit).sum())
    own = measure_hspace.moves_of(study, loaded, steps)
    assert steps == 2 and not own[:, steps:].any() and own[:, :steps].any((2, 3, 4)).all()  # fmt: skip
    table = study.effects(own, {"own": np.eye(4)}, loaded.t_edit)["own"]
    f = study.effects(loaded.moves, {"f": np.ones(1)}, loaded.t_edit, measure_hspace.FUNCTIONS)["f"]  # fmt: skip
    np.testing.assert_allclose(table.scores, f.scores, atol=0.02)  # of rounded pixels


def test_controls_are_of_the_steps_that_edit(args, seen):
    study = measure_hspace.Study(args)
    edit = np.array([True, True, False])
    moves = np.asarray(hspace_moves.load([args.directions[0]]).of(["Male"]).moves)[0]
    made = study.controls(moves, jax.random.key(0), edit)
    assert all(not table[2].any() for table in made.values())
    lengths = np.linalg.norm(moves.reshape(3, -1), axis=1)[:2]
    for name in ("random", "backwards"):
        own = np.linalg.norm(made[name].reshape(3, -1), axis=1)[:2]
        np.testing.assert_allclose(own, lengths, rtol=1e-4)
    swapped = properties.cosine(jnp.asarray(made["backwards"][0].ravel()), jnp.asarray(moves[1].ravel()))  # fmt: skip
    assert swapped.item() == pytest.approx(1, abs=1e-4)


def test_bad_wishes(args):
    with pytest.raises(UneError, match="--images 2: use 3 or more"):
        dataclasses.replace(args, images=2)
    with pytest.raises(UneError, match=r"end its name in .png or .svg"):
        dataclasses.replace(args, out=args.out.with_suffix(".pdf"))
