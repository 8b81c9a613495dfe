"""open_clip's layout: a transformers CLIPModel, written out in open_clip's names."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import normal, scattered, to_torch, torch
from safetensors.torch import save_file

from ports import clip

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

# The ratios are not whole, as bigG's 4.9231: the MLPs are 20 and 40 wide.
TEXT = dict(context_length=8, vocab_size=60, width=12, heads=3, layers=2)
TEXT |= dict(mlp_ratio=1.7)
VISION = dict(image_size=14, patch_size=4, width=24, layers=2, head_width=8)
VISION |= dict(mlp_ratio=1.7)


def model_cfg(**changes):
    """A model_cfg: of the towers only what is not open_clip's default, as published."""
    return {"embed_dim": 10, "vision_cfg": VISION, "text_cfg": TEXT} | changes


def torch_model(cfg, *, heads):
    """The same network in transformers, with ``heads`` in the vision tower."""
    act = "quick_gelu" if cfg.get("quick_gelu") else "gelu"
    v, t = cfg["vision_cfg"], cfg["text_cfg"]
    vision = dict(
        hidden_size=v["width"],
        intermediate_size=int(v["width"] * v.get("mlp_ratio", 4)),
        num_hidden_layers=v["layers"],
        num_attention_heads=heads,
        image_size=v["image_size"],
        patch_size=v["patch_size"],
        hidden_act=act,
    )
    text = dict(
        vocab_size=t["vocab_size"],
        hidden_size=t["width"],
        intermediate_size=int(t["width"] * t.get("mlp_ratio", 4)),
        num_hidden_layers=t["layers"],
        num_attention_heads=t["heads"],
        max_position_embeddings=t["context_length"],
        hidden_act=act,
        bos_token_id=58,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=cfg["embed_dim"]
    )
    return scattered(transformers.CLIPModel(config))


def blocks(encoder, prefix):
    """A stack's tensors under open_clip's names: q, k and v are one."""
    out = {}
    for i, layer in enumerate(encoder.layers):
        attn, at = layer.self_attn, f"{prefix}.resblocks.{i}"
        stacked = (attn.q_proj, attn.k_proj, attn.v_proj)
        out[f"{at}.attn.in_proj_weight"] = torch.cat([p.weight for p in stacked])
        out[f"{at}.attn.in_proj_bias"] = torch.cat([p.bias for p in stacked])
        for name, part in (
            ("attn.out_proj", attn.out_proj),
            ("ln_1", layer.layer_norm1),
            ("ln_2", layer.layer_norm2),
            ("mlp.c_fc", layer.mlp.fc1),
            ("mlp.c_proj", layer.mlp.fc2),
        ):
            out[f"{at}.{name}.weight"] = part.weight
            out[f"{at}.{name}.bias"] = part.bias
    return out


def in_open_clips_names(model):
    """Every tensor of a CLIPModel; the projections are matrices from the right."""
    text, vision = model.text_model, model.vision_model
    out = blocks(text.encoder, "transformer")
    out |= blocks(vision.encoder, "visual.transformer")
    for name, norm in (
        ("ln_final", text.final_layer_norm),
        ("visual.ln_pre", vision.pre_layrnorm),
        ("visual.ln_post", vision.post_layernorm),
    ):
        out |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    out["token_embedding.weight"] = text.embeddings.token_embedding.weight
    out["positional_embedding"] = text.embeddings.position_embedding.weight
    out["text_projection"] = model.text_projection.weight.T
    out["visual.class_embedding"] = vision.embeddings.class_embedding
    out["visual.conv1.weight"] = vision.embeddings.patch_embedding.weight
    out["visual.positional_embedding"] = vision.embeddings.position_embedding.weight
    out["visual.proj"] = model.visual_projection.weight.T
    out["logit_scale"] = model.logit_scale
    return out


def published(folder, cfg, model):
    """A folder as open_clip publishes it."""
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": cfg, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tensors = {k: v.contiguous() for k, v in in_open_clips_names(model).items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return str(folder)


def captions():
    """Word ids that end in the largest; open_clip pads with zeros."""
    ids = np.random.default_rng(0).integers(1, 58, (3, 8)).astype(np.int32)
    for row, length in zip(ids, (2, 5, 7), strict=True):
        row[length:], row[length] = 0, 59
    return ids


def features(model, pixels, ids):
    """torch's image and text features, not normalised."""
    image = model.vision_model(to_torch(pixels)).pooler_output
    text = model.text_model(to_torch(ids)).pooler_output
    return model.visual_projection(image), model.text_projection(text)


WIDE = {k: v for k, v in VISION.items() if k not in ("head_width", "mlp_ratio")}


@pytest.mark.parametrize(
    ("cfg", "heads"),
    [
        (model_cfg(), 3),
        (model_cfg(quick_gelu=True), 3),
        # Defaults: heads of 64, an MLP four times as wide, exact GELU.
        (model_cfg(vision_cfg=WIDE | {"width": 128, "layers": 1}), 2),
    ],
    ids=["gelu", "quick_gelu", "defaults"],
)
def test_both_towers(tmp_path, cfg, heads):
    model = torch_model(cfg, heads=heads)
    port = clip.load(published(tmp_path, cfg, model))
    pixels, ids = normal(2, 14, 14, 3), captions()
    got = jax.jit(port.apply)(port.params, pixels, ids)
    for ours, theirs in zip(got, features(model, pixels, ids), strict=True):
        assert rel(ours, theirs) <= 2e-5
    assert rel(port.params["logit_scale"], model.logit_scale) == 0


def test_both_layouts_are_one_network(tmp_path):
    """A repository may hold both: transformers' is read, unless the other is named."""
    cfg = model_cfg()
    model = torch_model(cfg, heads=3)
    port = clip.load(published(tmp_path, cfg, model))
    model.save_pretrained(tmp_path)
    both = clip.load(str(tmp_path))
    assert both.config == port.config
    jax.tree.map(np.testing.assert_array_equal, both.params, port.params)

    scattered(model, seed=1).save_pretrained(tmp_path)
    for layout, expected in (
        (None, model.logit_scale),
        ("transformers", model.logit_scale),
        ("open_clip", port.params["logit_scale"]),
    ):
        found = clip.load(str(tmp_path), layout=layout).params["logit_scale"]
        assert rel(found, expected) == 0


def test_bfloat16_stays_near_float32(tmp_path):
    """Of the largest value: measured 1.1e-2 (one rounding is 3.9e-3)."""
    cfg = model_cfg()
    model = torch_model(cfg, heads=3)
    half = clip.load(published(tmp_path, cfg, model), dtype=jnp.bfloat16)
    pixels, ids = normal(2, 14, 14, 3), captions()
    got = jax.jit(half.apply)(half.params, pixels, ids)
    for ours, theirs in zip(got, features(model, pixels, ids), strict=True):
        assert ours.dtype == jnp.bfloat16
        assert rel(ours.astype(jnp.float32), theirs) < 2e-2
