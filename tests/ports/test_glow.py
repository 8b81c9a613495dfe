"""Glow: exact inverses, densities by the change of variables, what is refused."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import GOLDENS, copy, folder, tensors

from ports import glow
from ports.checkpoint import CheckpointError
from ports.port import Port, init
from ports.sites import SiteError

TINY = glow.Config(n_flow=2, n_block=2, hidden=6, size=8)
KINDS = {
    f"{'affine' if a else 'additive'}, {'LU' if lu else 'plain'}": (a, lu)
    for a, lu in itertools.product((False, True), repeat=2)
}


def moved(port: Port, by: float = 0.03) -> Port:
    """Off the initial values, under which half of the network does nothing."""
    keys = itertools.count()

    def one(path, leaf):
        noise = jax.random.normal(jax.random.key(next(keys)), leaf.shape)
        fixed = path[-1].key in ("w_p", "s_sign")
        return leaf if fixed else leaf + by * noise

    return port._replace(params=jax.tree_util.tree_map_with_path(one, port.params))


def images(n=3, size=8):
    """Some in [-1, 1]."""
    x = np.random.default_rng(0).uniform(-1, 1, (n, size, size, 3))
    return x.astype(np.float32)


@pytest.fixture(scope="module", params=list(KINDS))
def port(request):
    affine, conv_lu = KINDS[request.param]
    config = glow.Config(
        n_flow=2, n_block=2, hidden=6, size=8, affine=affine, conv_lu=conv_lu
    )
    return moved(init(glow.Glow, config, jax.random.key(1)))


def run(port, x, method="__call__"):
    return jax.jit(port.apply, static_argnames="method")(port.params, x, method=method)


def test_decoding_undoes_encoding_and_encoding_decoding(port):
    x = images()
    z = run(port, x, "encode")
    assert z.shape == (3, 192) and float(jnp.abs(z - x.reshape(3, -1) / 2).max()) > 1
    assert rel(run(port, z, "decode"), x) < 2e-5
    assert rel(run(port, x), x) < 2e-5
    drawn = run(port, jax.random.normal(jax.random.key(2), (3, 192)), "unwhiten")
    assert rel(run(port, run(port, drawn, "decode"), "encode"), drawn) < 2e-5


def test_whitening_and_its_inverse(port):
    z = run(port, images(), "encode")
    eps = run(port, z, "whiten")
    assert float(jnp.abs(eps - z).max()) > 0.1
    assert rel(run(port, eps, "unwhiten"), z) < 5e-6
    assert rel(run(port, run(port, eps, "unwhiten"), "whiten"), eps) < 5e-6


def test_the_density_is_that_of_the_change_of_variables(port):
    """log N(eps) + log |d eps / d x|, from the whole Jacobian."""

    def white(x):
        z = port.apply(port.params, 2 * x.reshape(1, 8, 8, 3), method="encode")
        return port.apply(port.params, z, method="whiten")[0]

    x = images(1)
    jacobian = jax.jit(jax.jacfwd(white))(x.reshape(-1) / 2)
    eps = white(jnp.asarray(x).reshape(-1) / 2)
    normal = -0.5 * (jnp.square(eps) + jnp.log(2 * jnp.pi)).sum()
    expected = normal + jnp.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(run(port, x, "log_prob")[0], expected, rtol=1e-5)


def test_the_latents_order_is_the_levels_then_torchs(port):
    """What the first level's prior sees does not reach the first level's z alone."""
    assert port.config.shapes == ((4, 4, 6), (2, 2, 24))
    z = run(port, images(1), "encode")
    eps = run(port, z, "whiten")
    deeper = z.at[0, 96:].add(1.0)
    moved_eps = run(port, deeper, "whiten")
    assert float(jnp.abs(moved_eps - eps)[0, :96].max()) > 1e-3
    first = run(port, z.at[0, :96].add(1.0), "whiten")
    np.testing.assert_array_equal(first[0, 96:], eps[0, 96:])


def test_under_vmap_and_grad(port):
    x = images()
    alone = jax.vmap(lambda x: port.apply(port.params, x[None], method="encode")[0])
    assert rel(jax.jit(alone)(x), run(port, x, "encode")) < 1e-5

    def loss(params, x):
        return port.apply(params, x, method="log_prob").sum()

    grads = jax.jit(jax.grad(loss))(port.params, x)
    leaves = jax.tree.leaves(grads)
    assert all(bool(jnp.isfinite(g).all()) for g in leaves)
    assert sum(bool((g != 0).any()) for g in leaves) >= len(leaves) - 4


def test_lu_factors_are_the_plain_matrix():
    """The same product, inverse and log-determinant, from either form."""
    lu_port = moved(init(glow.Glow, TINY, jax.random.key(3)))
    plain = init(
        glow.Glow,
        glow.Config(n_flow=2, n_block=2, hidden=6, size=8, conv_lu=False),
        jax.random.key(4),
    )
    params = jax.tree.map(lambda x: x, lu_port.params)
    for flow in params["blocks"][0]["flows"].values():  # the last has LU in both
        p = {k: np.float64(v) for k, v in flow["invconv"].items()}
        low = np.tril(p["w_l"], -1) + np.eye(12)
        up = np.triu(p["w_u"], 1) + np.diag(p["s_sign"] * np.exp(p["w_s"]))
        flow["invconv"] = {"weight": jnp.asarray(p["w_p"] @ low @ up, jnp.float32)}
    plain = plain._replace(params=params)
    x = images()
    for method in ("encode", "log_prob"):
        assert rel(run(plain, x, method), run(lu_port, x, method)) < 5e-6
    z = run(lu_port, x, "encode")
    assert rel(run(plain, z, "decode"), run(lu_port, z, "decode")) < 2e-5


def test_only_the_triangles_of_the_factors_count():
    port = moved(init(glow.Glow, TINY, jax.random.key(3)))
    params = jax.tree.map(lambda x: x, port.params)
    inv = params["blocks"][0]["flows"][0]["invconv"]
    inv["w_l"] = inv["w_l"] + jnp.triu(jnp.ones((12, 12)))
    inv["w_u"] = inv["w_u"] + jnp.tril(jnp.ones((12, 12)))
    same = port._replace(params=params)
    x = images()
    assert rel(run(same, x, "encode"), run(port, x, "encode")) == 0


def test_sites_of_both_ways():
    port = moved(init(glow.Glow, TINY, jax.random.key(3)))
    x = images()
    z, taps = port.apply(port.params, x, method="encode", taps=("block.0", "block.1"))
    assert taps["block.0"].shape == (3, 4, 4, 12)
    last = taps["block.1"].transpose(0, 3, 1, 2).reshape(3, -1)
    np.testing.assert_array_equal(last, z[:, 96:])
    again, taps = port.apply(port.params, z, method="decode", taps=("reverse.0",))
    np.testing.assert_allclose(2 * taps["reverse.0"], again)
    with pytest.raises(SiteError, match=r"it has reverse\.1, reverse\.0"):
        port.apply(port.params, z, method="decode", taps=("block.0",))


def test_images_as_the_network_saw_them(key):
    """glow-pytorch: floor(value / 8) / 32 - 0.5, plus noise within a bin."""
    values = np.arange(256, dtype=np.float32)
    x = jnp.asarray(values / 127.5 - 1)
    low = np.floor(values / 8) / 32 - 0.5
    middle = glow.dequantised(TINY, x)
    np.testing.assert_allclose(middle / 2, low + 1 / 64, atol=1e-6)
    noisy = np.asarray(glow.dequantised(TINY, x, key)) / 2 - low
    assert noisy.min() >= -1e-6 and noisy.max() <= 1 / 32 + 1e-6
    assert noisy.std() > 0.005
    eight = glow.Config(n_bits=8)
    np.testing.assert_allclose(
        glow.dequantised(eight, x) / 2, (values + 0.5) / 256 - 0.5, atol=1e-6
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_flow": 0}, "n_flow = 0 is not positive"),
        ({"hidden": -1}, "hidden = -1 is not positive"),
        ({"n_bits": 9}, "n_bits = 9 is not from 1 to 8"),
        ({"size": 20}, r"20 pixels cannot be halved 3 times"),
        ({"n_flow": 3}, "missing tensor"),
        ({"n_flow": 1}, "unexpected tensor"),
        ({"affine": True}, "expected"),
        ({"conv_lu": False}, r"unexpected tensor \(no parameter"),
        ({"_class_name": "RealNVP"}, "holds a RealNVP, not a Glow"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    to = copy("glow", tmp_path)
    raw = json.loads((GOLDENS / "glow" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    with pytest.raises(CheckpointError, match=message) as e:
        glow.load(to)
    assert "\n" not in str(e.value)


def test_a_tensor_of_another_name_is_refused(tmp_path):
    weights = tensors("glow")
    weights["blocks.0.flows.0.invconv.w_q"] = weights["blocks.0.flows.0.invconv.w_p"]
    with pytest.raises(CheckpointError, match="w_q: unexpected tensor"):
        glow.load(copy("glow", tmp_path, weights))


def test_other_sizes_are_refused():
    port = glow.load(folder("glow"))
    with pytest.raises(ValueError, match=r"images are \(8, 16, 3\)"):
        port.apply(port.params, jnp.zeros((1, 8, 16, 3)), method="encode")
    with pytest.raises(ValueError, match="latents have 5 numbers"):
        port.apply(port.params, jnp.zeros((1, 5)), method="decode")
