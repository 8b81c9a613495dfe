"""Trained functions of Asyrp in ``une-jax hspace edit``: files, units, composition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import asyrp, asyrp_files, hspace, images, zoo
from une_jax.cli import hspace_moves, inside
from une_jax.cli.generator import generator_of_view
from une_jax.errors import UneError

IMAGE = "img_align_celeba/000007.jpg"


@pytest.fixture(scope="module")
def generator(built, tiny):
    return generator_of_view(zoo.open(built).manifest.views[0], str(tiny))


@pytest.fixture(scope="module")
def noise(generator, built):
    return np.asarray(zoo.open(built)[generator.name][:2], np.float32)


@pytest.fixture(scope="module")
def functions(generator, noise, tmp_path_factory):
    """Two files, the second of texts that differ less."""
    folder = tmp_path_factory.mktemp("f")
    channels = inside.middles(generator, noise[:1]).shape[-1]
    times = np.asarray(generator.walk_params["steps"].sampling.t)
    files = [folder / "smile.safetensors", folder / "hat.safetensors"]
    for seed, file in enumerate(files):
        about = {
            "view": dataclasses.asdict(generator.views[0]),
            "timesteps": times.tolist(),
            "t_edit": int(times[1 + seed]),
            "text cosine": 0.5 + 0.2 * seed,
        }
        f = asyrp.init(jax.random.key(seed), channels)
        asyrp_files.save(file, {k: 3 * w for k, w in f.items()}, about)
    return files


def test_a_function_moves_as_it_does_in_training(generator, noise, functions):
    """The command's walk is ``hspace.sample`` by ``asyrp.implicit``."""
    held = hspace_moves.load(functions)
    assert held.names == ("smile", "hat") and not held.symmetric
    times = np.asarray(generator.walk_params["steps"].sampling.t)
    assert held.t_edit == times[2]  # of the texts that differ less
    assert held.of(["smile"]).t_edit == times[1]
    schedule = generator.walk_params["steps"]
    phases = hspace.phases(schedule, t_edit=held.t_edit)
    amounts = np.array([[[0, 0], [1, -0.5]], [[0, 0], [2, 0]]], np.float32)
    how = {"symmetric": False, "rule": held.rule}
    edited = inside.edit(generator, noise, held.moves, amounts, phases, **how)
    assert (edited[:, 0] == generator.decode(noise)).mean() > 0.99

    unet = generator.sd.unet
    halves = hspace.Halves(
        lambda params, x, t, cond: unet.apply(params, x, t, cond, method="down"),
        lambda params, h, rest: unet.apply(params, h, rest, method="up"),
    )
    for i, own in enumerate(amounts[:, 1]):
        weight = np.repeat(own[:, None], len(times), 1)
        x0 = hspace.sample(
            halves,
            unet.params,
            jnp.moveaxis(noise[i : i + 1], 1, -1),
            schedule,
            generator.walk_params["cond"],
            shift=asyrp.implicit,
            what=asyrp.Implicit(held.moves, jnp.asarray(weight)),
            phases=phases,
        )
        wanted = generator.paint(np.moveaxis(np.asarray(x0), -1, 1))[0].astype(int)
        assert np.abs(edited[i, 1].astype(int) - wanted).max() <= 1
        assert np.abs(edited[i, 1].astype(int) - edited[i, 0]).max() > 1


def test_the_command_names_functions_after_their_files(
    run, functions, tiny, faces, tmp_path
):
    args = ("hspace", "edit", "--directions", *functions, "--image", faces / IMAGE)
    where = ("--generator", tiny, "--out", tmp_path / "e")
    ran = run(*args, *where, "--attribute", "smile", "hat=-1", "--strength", 0, 1, "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    said = ran.json
    assert said["attributes"] == {"smile": 1.0, "hat": -1.0}
    assert (said["unit"], said["process"]) == ("raw", "asymmetric")
    made = [images.decode(path) for path in said["images"]]
    assert len(made) == 2 and np.any(np.asarray(made[0]) != np.asarray(made[1]))

    def refused(*more):
        ran = run(*args, "--generator", tiny, "--out", tmp_path / "no", *more)
        assert ran.code == 1 and not (tmp_path / "no").exists()
        (error,) = ran.errors
        return error

    assert "there are smile, hat: choose with --attribute" in refused()
    assert "--unit sd: these count in raw" in refused("--attribute", "hat", "--unit", "sd")  # fmt: skip
    assert "unknown attribute 'hut'; did you mean hat?" in refused("--attribute", "hut")


def test_files_that_do_not_go_together(functions, tmp_path):
    table = tmp_path / "no.safetensors"
    table.write_bytes(b"nothing")
    with pytest.raises(UneError, match="one file of directions, or any number"):
        hspace_moves.load([functions[0], table])
    other = tmp_path / "other.safetensors"
    asyrp_files.save(other, asyrp.init(jax.random.key(0), 8, kind="adm"), {})
    with pytest.raises(UneError, match="of different kinds"):
        hspace_moves.load([functions[0], other])
    with pytest.raises(UneError, match="does not say of which model"):
        hspace_moves.load([other])
    same = tmp_path / functions[0].name
    asyrp_files.save(same, asyrp.init(jax.random.key(0), 8), {})
    with pytest.raises(UneError, match="two files have one name"):
        hspace_moves.load([functions[0], same])
