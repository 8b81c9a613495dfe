"""UNet2DModel and its pipeline: what is refused, layouts, transformations."""

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from golden import DIFFUSERS, arrays, copy, folder, tensors

from ports import ddpm
from ports.checkpoint import CheckpointError, sha256
from ports.port import init
from une_jax import hspace
from une_jax.ddim import invert, sample
from une_jax.guidance import guide, guided
from une_jax.schedule import Schedule

RAW = json.loads((Path(folder("ddpm")) / "config.json").read_text())
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
SCHEDULER = {"_class_name": "DDPMScheduler", "beta_schedule": "linear"}


@pytest.fixture(scope="module")
def port():
    return ddpm.load(folder("ddpm"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift = 'sp"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier'"),
        ({"class_embed_type": "projection"}, "class_embed_type = 'projection'"),
        ({"center_input_sample": True}, "center_input_sample = True"),
        ({"downsample_type": "fir"}, "downsample_type = 'fir'"),
        ({"upsample_type": "fir"}, "upsample_type = 'fir'"),
        ({"mid_block_type": None}, "mid_block_type = None"),
        ({"mid_block_scale_factor": 2}, "mid_block_scale_factor = 2"),
        ({"downsample_padding": 2}, "downsample_padding = 2"),
        ({"down_block_types": ["SkipDownBlock2D"] * 2}, "SkipDownBlock2D"),
        ({"up_block_types": ["AttnSkipUpBlock2D"] * 2}, "AttnSkipUpBlock2D"),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types has 1 entries for 2 lev"),
        ({"attention_head_dim": 3}, "attention_head_dim = 3 does not divide 8 chan"),
    ],
)
def test_a_config_of_another_network_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        ddpm.config_from_json(RAW | changes)


def test_heads_need_divide_only_widths_that_attend():
    plain = {"down_block_types": ["DownBlock2D"] * 2, "attention_head_dim": 16}
    plain |= {"up_block_types": ["UpBlock2D"] * 2}
    assert ddpm.config_from_json(RAW | plain).attention_head_dim == 16
    with pytest.raises(CheckpointError, match="does not divide 16"):
        ddpm.config_from_json(RAW | plain | {"attention_head_dim": 3})
    ddpm.config_from_json(
        RAW | plain | {"attention_head_dim": 3, "add_attention": False}
    )


def test_a_checkpoint_of_another_class_is_refused(tmp_path):
    path = Path(copy("ddpm", tmp_path))
    raw = RAW | {"_class_name": "UNet2DConditionModel"}
    (path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="UNet2DConditionModel, not a UNet2DMo"):
        ddpm.load(str(path))


def test_old_names_of_the_attention_in_every_block(tmp_path):
    """google/ddpm-* have them; the second attention of a block too."""
    weights = {}
    for name, value in tensors("ddpm_google").items():
        for new, old in OLD.items():
            name = name.replace(f".{new}.", f".{old}.")
        weights[name] = value
    assert "up_blocks.1.attentions.1.proj_attn.bias" in weights
    loaded, new = ddpm.load(copy("ddpm_google", tmp_path, weights)), ddpm.load(folder("ddpm_google"))  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, loaded.params, new.params)


def test_tensors_that_are_missing_or_strange_are_named(tmp_path):
    weights = tensors("ddpm")
    del weights["mid_block.attentions.0.to_q.bias"]
    weights["class_embedding.weight"] = np.zeros((3, 32), np.float16)
    with pytest.raises(CheckpointError) as e:
        ddpm.load(copy("ddpm", tmp_path, weights))
    assert "mid_block.attentions.0.to_q.bias: missing tensor" in str(e.value)
    assert "class_embedding.weight: unexpected tensor" in str(e.value)


@pytest.mark.parametrize("size", [(7, 8), (8, 9)])
def test_images_that_do_not_halve_are_refused(port, size):
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]}.*multiples of 2"):
        port.apply(port.params, jnp.zeros((1, *size, 3)), jnp.zeros(1, jnp.int32))


def test_the_condition_is_taken_and_ignored(port):
    g, apply = arrays("ddpm"), jax.jit(port.apply)
    eps = apply(port.params, g["x"], g["t"])
    told = apply(port.params, g["x"], g["t"], jnp.ones((1, 5, 12)))
    np.testing.assert_array_equal(told, eps)
    np.testing.assert_array_equal(apply(port.params, g["x"], g["t"], None), eps)


ADM = RAW | {
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "resnet_time_scale_shift": "scale_shift",
    "attention_head_dim": 4,
    "out_channels": 6,
    "num_class_embeds": 3,
}


@pytest.fixture(scope="module")
def adm():
    """A network with labels and a learned variance, of random weights."""
    return init(ddpm.UNet, ddpm.config_from_json(ADM), jax.random.key(0))


def test_a_label_is_of_its_image_or_of_all_and_is_needed(adm):
    g, apply = arrays("ddpm"), jax.jit(adm.apply)
    x, t = g["x"], g["t"]
    each = apply(adm.params, x, t, jnp.array([2, 0]))
    assert each.shape == (*x.shape[:-1], 6)
    assert rel(apply(adm.params, x, t, jnp.array([2]))[0], each[0]) <= 1e-5
    assert rel(apply(adm.params, x, t, jnp.array([2, 2]))[1], each[1]) > 1e-4
    for strange in (3, -1):
        told = apply(adm.params, x, t, jnp.array([2, strange]))
        assert np.isnan(told[1]).all() and rel(told[0], each[0]) <= 1e-5
    with pytest.raises(ValueError, match="told a class: pass it as cond"):
        apply(adm.params, x, t)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); this UNet takes classes"):
        apply(adm.params, x, t, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="3 conditions do not divide a batch of 2"):
        apply(adm.params, x, t, jnp.array([0, 1, 2]))


def test_the_halves_of_a_network_with_labels_make_the_whole(adm):
    g = arrays("ddpm")
    x, t, labels = g["x"], g["t"], jnp.array([1, 2])
    h, rest = adm.apply(adm.params, x, t, labels, method="down")
    whole, taps = adm.apply(adm.params, x, t, labels, taps=("mid",))
    np.testing.assert_array_equal(h, taps["mid"])
    np.testing.assert_array_equal(adm.apply(adm.params, h, rest, method="up"), whole)


def test_a_learned_variance_is_left_out_of_the_walk(adm):
    """By the samplers and by h-space alike; guidance takes two labels."""
    x0 = jnp.asarray(arrays("ddpm")["x"][:1]) / 3
    schedule = Schedule.from_config(SCHEDULER | {"beta_end": 0.0002}, steps=4)
    cond = guide(jnp.array([1]), jnp.array([2]), jnp.full(1, 2.0))

    def noise(params, x, t, cond):
        return adm.apply(params, x, t, cond)[..., :3]

    walked, wanted = (
        sample(guided(fn), adm.params, x0, schedule, cond) for fn in (adm.apply, noise)
    )
    np.testing.assert_array_equal(walked, wanted)
    halves = hspace.guided(
        hspace.Halves(*(partial(adm.apply, method=m) for m in ("down", "up")))
    )
    by_halves = hspace.collect(halves, adm.params, x0, schedule, cond)
    assert rel(by_halves.x0, walked) <= 1e-5


def test_each_image_sees_its_own_timestep(port):
    g, apply = arrays("ddpm"), jax.jit(port.apply)
    x = np.repeat(g["x"][:1], 2, axis=0)
    eps = apply(port.params, x, g["t"])
    assert rel(eps[0], eps[1]) > 1e-3
    floats = apply(port.params, x, np.float32(g["t"]))
    np.testing.assert_array_equal(floats, eps)


def test_under_vmap_as_in_a_batch(port):
    g = arrays("ddpm")
    x, t = jnp.asarray(g["x"]), jnp.asarray(g["t"])
    one = jax.vmap(lambda x, t: port.apply(port.params, x[None], t[None])[0])
    assert rel(jax.jit(one)(x, t), g["eps"]) <= 2e-5


def test_gradients_are_finite_everywhere(port):
    def loss(params, x):
        t = jnp.zeros(1, jnp.int32)
        return jnp.square(port.apply(params, x, t) - 1).mean()

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(port.params, jnp.zeros((1, 8, 8, 3)))  # fmt: skip
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert np.any(grads[0]["conv_in"]["bias"]) and np.any(grads[1])


def test_the_output_has_a_gradient_in_its_middle(port):
    g = arrays("ddpm")

    def loss(delta):
        deltas = {"mid": delta}
        return jnp.square(port.apply(port.params, g["x"], g["t"], deltas=deltas)).sum()

    grad = jax.jit(jax.grad(loss))(jnp.zeros((1, 1, 1, 16)))
    step = jnp.zeros((1, 1, 1, 16)).at[..., 3].set(1e-2)
    numeric = (loss(step) - loss(-step)) / 2e-2
    assert abs(float(grad[0, 0, 0, 3] - numeric)) < 2e-2 * abs(float(numeric))


def pipeline(to: Path, *, flat: bool, name: str = "DDPMPipeline") -> str:
    unet, scheduler = (to, to) if flat else (to / "unet", to / "scheduler")
    copy("ddpm_google", unet)
    scheduler.mkdir(exist_ok=True)
    (scheduler / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (to / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return str(to)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", ["DDPMPipeline", "DDIMPipeline"])
def test_both_layouts_of_a_pipeline_load(tmp_path, flat, name):
    loaded = ddpm.load_pipeline(pipeline(tmp_path, flat=flat, name=name))
    assert loaded.scheduler == SCHEDULER
    assert loaded.weights_sha256 == sha256([Path(folder("ddpm_google"))])
    g = arrays("ddpm_google")
    eps = jax.jit(loaded.unet.apply)(loaded.unet.params, g["x"], g["t"])
    assert rel(eps, g["eps"]) <= 2e-5


def test_a_pipeline_that_is_none_is_refused_in_one_line(tmp_path):
    path = Path(pipeline(tmp_path / "other", flat=False, name="LDMPipeline"))
    with pytest.raises(CheckpointError, match="is a LDMPipeline; supported: DDPMPipe"):
        ddpm.load_pipeline(str(path))
    for part, message in (
        ("unet", "has no folder 'unet'"),
        ("scheduler", "has no folder 'scheduler'"),
        ("scheduler/scheduler_config.json", "scheduler_config.json"),
        ("model_index.json", "model_index.json"),
        (f"unet/{DIFFUSERS}", "no"),
    ):
        path = Path(pipeline(tmp_path / part.replace("/", "-"), flat=False))
        gone = path / part
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with pytest.raises(CheckpointError, match=message) as e:
            ddpm.load_pipeline(str(path))
        assert "\n" not in str(e.value)


def test_it_is_an_eps_fn_of_the_librarys_samplers(port):
    """Inverted and sampled again, an image comes back: the more steps, the nearer."""
    x0 = jnp.asarray(arrays("ddpm")["x"][:1]) / 3
    errors = []
    gentle = SCHEDULER | {"beta_end": 0.0002}  # the network is an untrained one
    for steps in (4, 32):
        schedule = Schedule.from_config(gentle, steps=steps)
        there = jax.jit(invert, static_argnums=0)
        back = jax.jit(sample, static_argnums=0)
        x_t = there(port.apply, port.params, x0, schedule)
        errors.append(rel(back(port.apply, port.params, x_t, schedule), x0))
    assert errors[1] < errors[0] / 2 and errors[1] < 0.1
