"""The strict loader: what fits loads exactly, what does not is named, all at once."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from golden import TRANSFORMERS, arrays, copy, folder, tensors
from safetensors.numpy import save_file

from ports import clip, unet, vae
from ports.checkpoint import CheckpointError
from ports.load import MisfitError, Rule, conv, keep, linear, linear_from_any
from ports.load import load_params as fill

FC1 = "encoder.layers.0.mlp.fc1"  # of the text tower: (20, 12) in torch's layout
HALF = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


def text_tower(tmp_path, weights):
    return clip.load(copy("clip_text", tmp_path, weights))


def misfits(tmp_path, weights):
    """The problems of loading these weights as the text tower."""
    with pytest.raises(MisfitError) as e:
        text_tower(tmp_path, weights)
    assert str(tmp_path) in str(e.value)
    for problem in e.value.problems:
        assert problem in str(e.value)
    return e.value.problems


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# What fits


def test_parameters_lie_under_the_tensors_own_names():
    port, raw = clip.load(folder("clip")), tensors("clip")
    names = {
        ".".join(str(k.key) for k in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(port.params)
    }
    assert names == set(raw)
    block = port.params["text_model"]["encoder"]["layers"][0]
    got = block["mlp"]["fc1"]["weight"]
    expected = raw[f"text_model.{FC1}.weight"].T
    np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_transforms_turn_torchs_layout_into_ours():
    x = np.arange(24).reshape(4, 3, 2, 1)
    assert conv(x)[1, 0, 2, 3] == x[3, 2, 1, 0]
    assert linear(x[..., 0, 0])[2, 3] == x[3, 2, 0, 0]
    point = x[:, :, :1]
    np.testing.assert_array_equal(linear_from_any(point), linear(point[..., 0, 0]))
    np.testing.assert_array_equal(linear_from_any(x[..., 0, 0]), linear(x[..., 0, 0]))
    assert keep(x) is x


@pytest.mark.parametrize("half", HALF)
def test_half_precision_files_are_the_rounded_float32(tmp_path, half):
    """In the file, and by ``param_dtype`` from a float32 file: the same numbers."""
    rng = np.random.default_rng(0)
    full = {k: rng.standard_normal(v.shape, np.float32) for k, v in tensors("clip_text").items()}  # fmt: skip
    rounded = {k: v.astype(HALF[half]) for k, v in full.items()}
    from_half = text_tower(tmp_path / "half", rounded)
    expected = {k: v.astype(np.float32) for k, v in rounded.items()}
    same(from_half.params, text_tower(tmp_path / "rounded", expected).params)
    assert {x.dtype for x in jax.tree.leaves(from_half.params)} == {jnp.float32.dtype}

    path = copy("clip_text", tmp_path / "full", full)
    cast = clip.load(path, param_dtype=HALF[half])
    assert {x.dtype for x in jax.tree.leaves(cast.params)} == {np.dtype(HALF[half])}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), cast.params)
    same(wide, from_half.params)


def test_dtype_is_that_of_activations_and_unless_told_of_parameters():
    ids = arrays("clip_text")["ids"]
    half = clip.load(folder("clip"), dtype=jnp.bfloat16)
    mixed = clip.load(folder("clip"), dtype=jnp.bfloat16, param_dtype=jnp.float32)
    assert {x.dtype for x in jax.tree.leaves(half.params)} == {jnp.bfloat16.dtype}
    assert {x.dtype for x in jax.tree.leaves(mixed.params)} == {jnp.float32.dtype}
    pixels = arrays("clip")["pixels"]
    for port in (half, mixed):
        image, text = jax.eval_shape(port.apply, port.params, pixels, ids)
        assert image.dtype == text.dtype == jnp.bfloat16
    wide = clip.load(folder("clip"), param_dtype=jnp.bfloat16)
    image, text = jax.eval_shape(wide.apply, wide.params, pixels, ids)
    assert image.dtype == text.dtype == jnp.float32


def test_position_ids_of_older_files_are_left(tmp_path):
    weights = tensors("clip_text")
    weights["embeddings.position_ids"] = np.arange(8, dtype=np.int64)[None]
    text_tower(tmp_path, weights)


def test_single_prefixed_and_bare_text_towers_are_the_same(tmp_path):
    bare = tensors("clip_text")
    prefixed = {f"text_model.{k}": v for k, v in bare.items()}
    same(
        text_tower(tmp_path / "a", prefixed).params,
        text_tower(tmp_path / "b", bare).params,
    )


def test_parameters_are_no_constants_of_the_program(tmp_path):
    """They are arguments: 4 MB of them leave no constant of 1 MB in the lowered HLO."""
    raw = json.loads((Path(folder("clip_text")) / "config.json").read_text())
    raw["vocab_size"] = 2**17
    weights = tensors("clip_text")
    table = "embeddings.token_embedding.weight"
    weights[table] = np.zeros((2**17, 12), np.float16)
    weights[table][:] = np.random.default_rng(0).integers(0, 9, (2**17, 12))
    path = copy("clip_text", tmp_path, weights)
    (tmp_path / "config.json").write_text(json.dumps(raw))
    port = clip.load(path)
    assert sum(x.nbytes for x in jax.tree.leaves(port.params)) > 4e6

    def hidden(params, ids):
        return port.apply(params, ids, method="hidden_text")

    ids = jnp.zeros((1, 8), jnp.int32)
    assert largest_constant(hidden, port.params, ids) < 1e6
    # The measure sees a closure that does hold them.
    assert largest_constant(lambda ids: hidden(port.params, ids), ids) > 4e6


def largest_constant(f, *args) -> int:
    """Bytes of the largest constant of a jitted function, captured or literal."""
    traced = jax.jit(f).trace(*args)
    captured = [np.asarray(c).nbytes for c in traced.jaxpr.consts]
    literals = [
        4 * int(np.prod([int(n) for n in shape.split("x")[:-1]]))
        for shape in re.findall(
            r"stablehlo\.constant dense<.*?> : tensor<([0-9x]+x\w+)>",
            traced.lower().as_text(),
        )
    ]
    return max(captured + literals, default=0)


# One tensor for several parameters


QKV = Rule(r"in_proj_(weight|bias)", (r"q.\1", r"k.\1", r"v.\1"), linear)


def stacked(tmp_path, weights, rules=(QKV,)):
    """Load q, k and v of a layer that is 4 wide and sees 3 features."""
    save_file(weights, tmp_path / TRANSFORMERS)
    like = jax.ShapeDtypeStruct
    layer = {"weight": like((3, 4), jnp.float32), "bias": like((4,), jnp.float32)}
    target = {name: layer for name in "qkv"}
    return fill([tmp_path / TRANSFORMERS], target, rules, jnp.float32)


def in_proj(*shape):
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def stacked_problems(tmp_path, weights):
    with pytest.raises(MisfitError) as e:
        stacked(tmp_path, weights)
    return e.value.problems


def test_a_tensor_is_shared_out_in_order_along_its_first_axis(tmp_path):
    weights = {"in_proj_weight": in_proj(12, 3), "in_proj_bias": in_proj(12)}
    params = stacked(tmp_path, weights)
    for i, name in enumerate("qkv"):
        rows = slice(4 * i, 4 * i + 4)
        same(params[name]["weight"], weights["in_proj_weight"][rows].T)
        same(params[name]["bias"], weights["in_proj_bias"][rows])


@pytest.mark.parametrize("shape", [(11, 3), (9, 3), (2, 3), (12, 4)])
def test_a_stacked_tensor_of_another_shape_is_named_once_for_each_misfit(
    tmp_path, shape
):
    weights = {"in_proj_weight": in_proj(*shape), "in_proj_bias": in_proj(12)}
    for problem in (problems := stacked_problems(tmp_path, weights)):
        start = f"in_proj_weight: shape {shape} becomes "
        assert problem.startswith(start) and problem.endswith("expected (3, 4)")
    assert len(problems) == len(set(problems)) <= 2


def test_a_stacked_scalar_is_a_misfit(tmp_path):
    weights = {"in_proj_weight": in_proj(12, 3), "in_proj_bias": in_proj()}
    assert all("in_proj_bias" in p for p in stacked_problems(tmp_path, weights))


def test_a_missing_stacked_tensor_leaves_all_its_parameters_empty(tmp_path):
    weights = {"in_proj_weight": in_proj(12, 3)}
    assert stacked_problems(tmp_path, weights) == [
        f"{name}.bias: missing tensor" for name in "kqv"
    ]


def test_a_part_that_another_tensor_fills_is_named(tmp_path):
    weights = {"in_proj_weight": in_proj(12, 3), "in_proj_bias": in_proj(12)}
    weights["k_bias"] = in_proj(4)
    with pytest.raises(MisfitError) as e:
        stacked(tmp_path, weights, (QKV, Rule("k_bias", "k.bias")))
    assert e.value.problems == ["k_bias: k.bias is already filled by in_proj_bias"]


def test_a_stacked_tensor_of_a_layer_that_is_not_there_is_named(tmp_path):
    weights = {"in_proj_weight": in_proj(12, 3), "in_proj_bias": in_proj(12)}
    weights["gate"] = in_proj(8)
    with pytest.raises(MisfitError) as e:
        stacked(tmp_path, weights, (QKV, Rule("gate", ("gate.up", "gate.down"))))
    assert e.value.problems == [
        f"gate: unexpected tensor (no parameter gate.{way})" for way in ("up", "down")
    ]


# What does not fit


def test_a_dropped_tensor_is_named(tmp_path):
    weights = tensors("clip_text")
    del weights[f"{FC1}.bias"]
    assert misfits(tmp_path, weights) == [f"text_model.{FC1}.bias: missing tensor"]


def test_an_added_tensor_is_named(tmp_path):
    weights = tensors("clip_text") | {"lora.up.weight": np.zeros(3, np.float16)}
    assert misfits(tmp_path, weights) == ["lora.up.weight: unexpected tensor"]


def test_a_tensor_of_a_layer_that_the_config_lacks_is_named(tmp_path):
    weights = tensors("clip_text")
    name = "encoder.layers.2.mlp.fc1.bias"
    weights[name] = weights[f"{FC1}.bias"]
    (problem,) = misfits(tmp_path, weights)
    assert problem == f"{name}: unexpected tensor (no parameter text_model.{name})"


def test_a_transposed_tensor_is_named_with_both_shapes(tmp_path):
    weights = tensors("clip_text")
    weights[f"{FC1}.weight"] = weights[f"{FC1}.weight"].T.copy()
    (problem,) = misfits(tmp_path, weights)
    assert problem == (
        f"{FC1}.weight: shape (12, 20) becomes (20, 12), expected (12, 20)"
    )


def test_a_misnamed_tensor_is_named_twice(tmp_path):
    weights = tensors("clip_text")
    weights["encoder.layers.0.mlp.fc3.weight"] = weights.pop(f"{FC1}.weight")
    assert misfits(tmp_path, weights) == [
        "encoder.layers.0.mlp.fc3.weight: unexpected tensor",
        f"text_model.{FC1}.weight: missing tensor",
    ]


def test_every_mistake_is_reported_at_once(tmp_path):
    weights = tensors("clip_text")
    del weights["final_layer_norm.bias"]
    weights["surplus"] = np.zeros(1, np.float16)
    weights[f"{FC1}.weight"] = weights[f"{FC1}.weight"].T.copy()
    weights["encoder.layers.1.mlp.fc3.bias"] = weights.pop(
        "encoder.layers.1.mlp.fc1.bias"
    )
    named = {p.split(":")[0] for p in misfits(tmp_path, weights)}
    assert named == {
        "text_model.final_layer_norm.bias",
        "surplus",
        f"{FC1}.weight",
        "encoder.layers.1.mlp.fc3.bias",
        "text_model.encoder.layers.1.mlp.fc1.bias",
    }


def test_a_long_list_of_mistakes_is_cut_in_the_message_only(tmp_path):
    with pytest.raises(MisfitError) as e:
        text_tower(tmp_path, {"nothing": np.zeros(1, np.float16)})
    assert len(e.value.problems) == len(tensors("clip_text")) + 1
    more = len(e.value.problems) - 12
    assert str(e.value).endswith(f"; and {more} more")


def test_two_tensors_for_one_parameter(tmp_path):
    """A VAE with the attention's old name and its new one."""
    weights = tensors("vae")
    name = "decoder.mid_block.attentions.0.{}.weight"
    weights[name.format("query")] = weights[name.format("to_q")]
    with pytest.raises(MisfitError) as e:
        vae.load(copy("vae", tmp_path, weights))
    (problem,) = e.value.problems
    for word in ("query", "to_q", "already filled"):
        assert word in problem


def test_two_rules_for_one_tensor(tmp_path):
    file = tmp_path / TRANSFORMERS
    save_file({"a.weight": np.zeros(2, np.float32)}, file)
    target = {"a": {"weight": jax.ShapeDtypeStruct((2,), jnp.float32)}}
    exact, wide = Rule(r"a\.weight", "a.weight"), Rule(r".*\.weight", "a.weight")
    same(fill([file], target, (exact,), jnp.float32), {"a": {"weight": np.zeros(2)}})
    with pytest.raises(MisfitError) as e:
        fill([file], target, (exact, wide), jnp.float32)
    assert e.value.problems[0] == "a.weight: claimed by several rules"


@pytest.mark.parametrize("name", ["ema.a.weight", "a.weight_2", "xa.weight"])
def test_rules_match_whole_names(tmp_path, name):
    file = tmp_path / TRANSFORMERS
    save_file({name: np.zeros(2, np.float32)}, file)
    target = {"a": {"weight": jax.ShapeDtypeStruct((2,), jnp.float32)}}
    with pytest.raises(MisfitError) as e:
        fill([file], target, (Rule(r"a\.weight", "a.weight"),), jnp.float32)
    assert e.value.problems == [
        f"{name}: unexpected tensor",
        "a.weight: missing tensor",
    ]


# Configs that the network does not implement


def changed(tmp_path, case, **values) -> str:
    path = copy(case, tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return path


@pytest.mark.parametrize(
    ("case", "load", "key", "value"),
    [
        ("unet_sd1", unet.load, "addition_embed_type", "image"),
        ("unet_sd1", unet.load, "only_cross_attention", True),
        ("unet_sd1", unet.load, "mid_block_type", None),
        ("unet_sd1", unet.load, "resnet_time_scale_shift", "scale_shift"),
        ("unet_sd1", unet.load, "act_fn", "gelu"),
        ("unet_sd1", unet.load, "mid_block_scale_factor", 1.5),
        ("unet_sd1", unet.load, "num_class_embeds", 10),
        ("vae", vae.load, "act_fn", "relu"),
        ("clip_text", clip.load, "hidden_act", "mish"),
    ],
)
def test_an_unsupported_value_names_key_and_value(tmp_path, case, load, key, value):
    with pytest.raises(CheckpointError) as e:
        load(changed(tmp_path, case, **{key: value}))
    shown = repr(tuple(value) if isinstance(value, list) else value)
    assert f"{key} = {shown}" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("case", "load", "key", "known", "value"),
    [
        ("unet_sd1", unet.load, "down_block_types", "DownBlock2D", "SkipDownBlock2D"),
        ("unet_sd1", unet.load, "up_block_types", "UpBlock2D", "AttnUpBlock2D"),
        ("vae", vae.load, "down_block_types", "DownEncoderBlock2D", "DownBlock2D"),
        ("vae", vae.load, "up_block_types", "UpDecoderBlock2D", "UpBlock2D"),
    ],
)
def test_an_unsupported_block_is_named(tmp_path, case, load, key, known, value):
    with pytest.raises(CheckpointError, match=f"{key} = '{value}' .* '{known}'"):
        load(changed(tmp_path, case, **{key: [known, value]}))


@pytest.mark.parametrize(
    ("case", "load", "name"),
    [
        ("clip_text", unet.load, "CLIPTextModel"),
        ("unet_sd1", clip.load, "UNet2DConditionModel"),
        ("unet_sd1", vae.load, "UNet2DConditionModel"),
    ],
)
def test_another_class_is_refused_by_name(case, load, name):
    with pytest.raises(CheckpointError, match=f"holds a {name}, not a"):
        load(folder(case))


def test_a_config_that_names_no_class_is_refused(tmp_path):
    path = changed(tmp_path, "vae", _class_name="")
    with pytest.raises(CheckpointError, match="no named class, not a AutoencoderKL"):
        vae.load(path)
