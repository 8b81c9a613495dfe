"""``une-jax hspace local``: the moves of one image's h that its prediction answers to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from une_jax import directions, hspace_files, images, zoo
from une_jax.cli.generator import generator_of_view

ROW, T = 2, 500


@pytest.fixture(scope="module")
def generator(built, tiny):
    return generator_of_view(zoo.open(built).manifest.views[0], str(tiny))


@pytest.fixture(scope="module")
def jacobian(built, generator):
    """Of the raw output by h, dense, at the step nearest to ``T``."""
    schedule = generator.walk_params["steps"]
    times = np.asarray(schedule.sampling.t)
    step = int(np.argmin(np.abs(times - T)))
    noise = np.asarray(zoo.open(built)[generator.name][[ROW]], np.float32)
    seen = generator.walk(generator.walks.watched, noise)
    x, t = jnp.asarray(seen.x[:, step]), jnp.full(1, times[step])
    unet, cond = generator.sd.unet, generator.walk_params["cond"]
    h, rest = unet.apply(unet.params, x, t, cond, method="down")

    def up(h):
        return unet.apply(unet.params, h, rest, method="up")[0]

    dense = np.asarray(jax.jacobian(up)(h))[..., 0, :, :, :]
    return dense.reshape(*dense.shape[:2], -1, h.size)


@pytest.fixture(scope="module", params=[(), (0.0, 0.0, 0.5, 1.0)], ids=["all", "left"])
def local(request, run, built, tiny, tmp_path_factory):
    """The region, the file, and what the command says."""
    file = tmp_path_factory.mktemp("local") / "j.safetensors"
    ran = run(
        *("hspace", "local", built, "--generator", tiny, "--out", file),
        *("--row", ROW, "--t", T, "--tolerance", 1e-8, "--iterations", 200),
        *(("--region", *request.param) if request.param else ()),
        "--json",
    )
    assert ran.code == 0, ran.err
    return request.param, file, ran.json


def test_directions_are_the_jacobians_singular_vectors(local, jacobian):
    region, file, said = local
    inside = jacobian[:, : jacobian.shape[1] // 2] if region else jacobian
    _, values, vectors = np.linalg.svd(inside.reshape(-1, inside.shape[-1]))
    found = [row["change of the output"] for row in said["table"]]
    np.testing.assert_allclose(found, values[:3], rtol=1e-3)
    held = directions.load(file)
    moves = hspace_files.unpack(held)
    assert held.names == ("j1", "j2", "j3") and (moves == moves[:, :1]).all()
    # As long as changes the output by 1.
    first = moves[0, 0].ravel()
    np.testing.assert_allclose(np.linalg.norm(first), 1 / values[0], rtol=1e-3)
    assert abs(vectors[0] @ first) * values[0] == pytest.approx(1, abs=1e-3)
    assert np.isfinite(held.spread).all() and (held.spread > 0).all()


def test_what_is_found_is_edited_along(run, local, tiny, faces, tmp_path):
    ran = run(
        *("hspace", "edit", "--directions", local[1], "--attribute", "j1"),
        *("--image", faces / "img_align_celeba/000007.jpg", "--strength", 0, 90),
        *("--generator", tiny, "--out", tmp_path / "e", "--json"),
    )
    assert ran.code == 0, ran.err
    still, moved = (np.asarray(images.decode(f), int) for f in ran.json["images"])
    assert np.abs(still - moved).max() > 1


BAD = {
    "--row 900: ": ("--row", "900"),
    "--components is 0; use 1": ("--components", "0"),
    "--region 0.5 0 0.2 1: give LEFT TOP": ("--region", "0.5", "0", "0.2", "1"),
    "places is inside": ("--region", "0", "0", "0.01", "0.01"),
}


def test_no_more_directions_than_the_output_has(run, built, tiny, generator, tmp_path):
    """One place of the latents has four channels."""
    out, one = tmp_path / "j.safetensors", 1 / generator.views[0].shape[-1]
    ran = run(
        *("hspace", "local", built, "--generator", tiny, "--out", out),
        *("--region", 0, 0, one, one, "--components", 6),
    )
    (error,) = ran.errors
    assert "--components 6: h changes the output in 4 directions only, inside" in error
    assert ran.code == 1 and not out.exists()


@pytest.mark.parametrize("message", BAD)
def test_bad_wishes_are_refused_before_any_work(run, built, tmp_path, message):
    out = tmp_path / "j.safetensors"
    ran = run("hspace", "local", built, "--out", out, *BAD[message])
    assert ran.code == 1 and not out.exists()
    (error,) = ran.errors
    assert message in error
