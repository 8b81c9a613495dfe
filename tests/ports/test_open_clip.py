"""open_clip's layout: which one is read, and which configs are refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from golden import OPEN_CLIP, TRANSFORMERS, copy, folder, tensors

from ports import checkpoint, clip, open_clip
from ports.checkpoint import CheckpointError
from ports.load import MisfitError

GOLDEN = json.loads((Path(folder("open_clip")) / open_clip.CONFIG).read_text())


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def refused(path, **options) -> str:
    with pytest.raises(CheckpointError) as e:
        clip.load(str(path), **options)
    assert "\n" not in str(e.value)
    return str(e.value)


# Which layout


def layout(path) -> str:
    return open_clip.layout_of(str(path), clip.CLASS_NAMES)


@pytest.fixture
def both(tmp_path):
    """A folder of both layouts, of different models."""
    copy("open_clip", tmp_path)
    copy("clip", tmp_path)
    return tmp_path


def test_transformers_layout_is_read_where_both_are(both):
    assert layout(both) == "transformers"
    same(clip.load(str(both)), clip.load(folder("clip")))
    chosen = clip.load(str(both), layout="open_clip")
    same(chosen, clip.load(folder("open_clip")))
    with pytest.raises(ValueError, match="'timm' is none of 'transformers', 'open_cl"):
        clip.load(str(both), layout="timm")


def test_open_clips_layout_is_read_where_the_other_has_only_pickles(both):
    (both / TRANSFORMERS).rename(both / "pytorch_model.bin")
    assert layout(both) == "open_clip"
    same(clip.load(str(both)), clip.load(folder("open_clip")))
    message = refused(both, layout="transformers")
    assert OPEN_CLIP in message


def test_open_clips_layout_is_read_beside_another_librarys_config(both):
    """As timm publishes CLIP: its own image tower in config.json."""
    timm = json.dumps({"architecture": "vit_base_patch32_clip_224", "num_classes": 512})
    (both / "config.json").write_text(timm)
    assert layout(both) == "open_clip"
    same(clip.load(str(both)), clip.load(folder("open_clip")))


def test_a_folder_of_neither_layout_asks_for_transformers_config(tmp_path):
    assert "config.json is missing" in refused(tmp_path)
    copy("open_clip", tmp_path / "model")
    (tmp_path / "model" / OPEN_CLIP).rename(tmp_path / "model" / "open_clip.bin")
    assert "pickled" in refused(tmp_path / "model")


def test_the_other_name_of_its_weights_and_a_subfolder(tmp_path):
    copy("open_clip", tmp_path / "clip")
    file = tmp_path / "clip" / OPEN_CLIP
    file.rename(file.with_name("open_clip_pytorch_model.safetensors"))
    same(clip.load(str(tmp_path), subfolder="clip"), clip.load(folder("open_clip")))


def test_the_hash_is_of_the_layout_that_is_read(both):
    for name, case in (("transformers", "clip"), ("open_clip", "open_clip")):
        stems = open_clip.LAYOUTS[name]
        expected = checkpoint.sha256([Path(folder(case))], stems=stems)
        assert checkpoint.sha256([both], stems=stems) == expected


LISTING = ["config.json", TRANSFORMERS, open_clip.CONFIG, OPEN_CLIP, "open_clip.bin"]


@pytest.mark.parametrize(
    ("case", "weights"),
    [("clip", [[], [TRANSFORMERS]]), ("open_clip", [[], [OPEN_CLIP]])],
)
def test_the_weights_of_one_layout_are_downloaded(monkeypatch, case, weights):
    """The configs first: they say which."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repo_id, *, revision, **patterns):
        found = huggingface_hub.utils.filter_repo_objects(LISTING, **patterns)
        asked.append([name for name in found if name.endswith(".safetensors")])
        return folder(case)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    same(clip.load("owner/clip"), clip.load(folder(case)))
    assert asked == weights


# What the config may say


def changed(tmp_path, section, **values) -> str:
    """The golden with these values in model_cfg or in one of its sections."""
    path = copy("open_clip", tmp_path)
    raw = json.loads(json.dumps(GOLDEN))
    part = raw["model_cfg"]
    (part if section == "model_cfg" else part[section]).update(values)
    (tmp_path / open_clip.CONFIG).write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model_cfg", "custom_text", True),
        ("model_cfg", "multimodal_cfg", {"layers": 12}),
        ("model_cfg", "init_logit_bias", -10),
        ("model_cfg", "embed_dim", None),
        ("model_cfg", "quick_gelu", "yes"),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224"),
        ("vision_cfg", "layers", [3, 4, 6, 3]),
        ("vision_cfg", "image_size", [14, 28]),
        ("vision_cfg", "patch_size", 0),
        ("vision_cfg", "mlp_ratio", "4"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "no_ln_pre", True),
        ("vision_cfg", "final_ln_after_pool", True),
        ("vision_cfg", "ls_init_value", 1e-4),
        ("vision_cfg", "act_kwargs", {"approximate": "tanh"}),
        ("vision_cfg", "norm_kwargs", {"eps": 1e-6}),
        ("vision_cfg", "block_type", "custom"),
        ("vision_cfg", "qk_norm", True),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "embed_cls", True),
        ("text_cfg", "proj_type", "none"),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "norm_kwargs", {"eps": 1e-6}),
        ("text_cfg", "scale_fc", True),
        ("text_cfg", "heads", True),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(tmp_path, section, key, value):
    message = refused(changed(tmp_path, section, **{key: value}))
    expected = f"{open_clip.CONFIG}: {section}.{key} = {value!r} is not supported"
    assert message.startswith(expected)


def test_a_key_that_is_not_known_is_refused(tmp_path):
    message = refused(changed(tmp_path, "vision_cfg", rope=True, window=7))
    assert message.endswith("vision_cfg has keys that are not supported: rope, window")


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("vision_cfg", {"head_width": 7}),  # three heads of 24
        ("vision_cfg", {"patch_dropout": 0.5, "output_tokens": True}),
        ("vision_cfg", {"timm_model_name": "", "timm_proj": "linear"}),
        ("vision_cfg", {"act_kwargs": {}, "norm_kwargs": None, "block_type": None}),
        ("text_cfg", {"hf_tokenizer_name": "x/y", "pad_id": 1, "pool_type": "argmax"}),
        ("model_cfg", {"init_logit_scale": 1.0, "output_dict": True}),
    ],
)
def test_what_changes_no_feature_is_let_through(tmp_path, section, values):
    port = clip.load(changed(tmp_path, section, **values))
    assert port.config == clip.load(folder("open_clip")).config


@pytest.mark.parametrize("section", ["model_cfg", "vision_cfg", "text_cfg"])
def test_a_section_that_is_missing_is_named(tmp_path, section):
    raw = json.loads(json.dumps(GOLDEN))
    del (raw if section == "model_cfg" else raw["model_cfg"])[section]
    path = copy("open_clip", tmp_path)
    (tmp_path / open_clip.CONFIG).write_text(json.dumps(raw))
    assert f"{open_clip.CONFIG}: {section} is missing" in refused(path)


@pytest.mark.parametrize(
    ("section", "values", "heads"),
    [
        ("vision_cfg", {"head_width": 48}, 0),
        ("vision_cfg", {"head_width": 5, "width": 26}, 5),
        ("text_cfg", {"heads": 5}, 5),
    ],
)
def test_a_width_that_does_not_divide_into_heads(tmp_path, section, values, heads):
    message = refused(changed(tmp_path, section, **values))
    assert f"{section}.width = " in message
    assert message.endswith(f"does not divide into {heads} heads")


PUBLISHED = {  # name: (model_cfg, the vision tower's heads, width of its MLP)
    "ViT-L-14-336": (
        {
            "embed_dim": 768,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 336, "layers": 24, "width": 1024}
            | {"patch_size": 14},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768}
            | {"heads": 12, "layers": 12},
        },
        (16, 4096, "quick_gelu"),
    ),
    "ViT-H-14": (
        {
            "embed_dim": 1024,
            "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280}
            | {"head_width": 80, "patch_size": 14},
            "text_cfg": {"width": 1024, "heads": 16, "layers": 24},
        },
        (16, 5120, "gelu"),
    ),
    "ViT-bigG-14": (
        {
            "embed_dim": 1280,
            "vision_cfg": {"image_size": 224, "layers": 48, "width": 1664}
            | {"head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14},
            "text_cfg": {"width": 1280, "heads": 20, "layers": 32},
        },
        (16, 8192, "gelu"),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models(name):
    model_cfg, (heads, hidden, act) = PUBLISHED[name]
    raw = open_clip.config_json({"model_cfg": model_cfg})
    config = clip.config_from_json(raw)
    assert config.vision is not None and config.text is not None
    assert config.vision.num_attention_heads == heads
    assert config.vision.intermediate_size == hidden
    assert config.text.intermediate_size == 4 * config.text.hidden_size
    assert {config.vision.hidden_act, config.text.hidden_act} == {act}
    assert config.text_projection == config.visual_projection == model_cfg["embed_dim"]


# Its tensors


def test_every_tensor_that_does_not_fit_is_named(tmp_path):
    weights = tensors("open_clip")
    del weights["ln_final.bias"]
    weights["visual.proj"] = weights["visual.proj"].T.copy()
    weights["logit_bias"] = np.zeros((), np.float16)
    block = "visual.transformer.resblocks.1.attn.in_proj_weight"
    weights[block] = weights[block][:-1]
    with pytest.raises(MisfitError) as e:
        clip.load(copy("open_clip", tmp_path, weights))
    assert e.value.problems == [
        "logit_bias: unexpected tensor",
        "visual.proj: shape (10, 24) becomes (10, 24), expected (24, 10)",
        f"{block}: shape (71, 24) becomes (24, 23), expected (24, 24)",
        "text_model.final_layer_norm.bias: missing tensor",
    ]


def test_a_logit_scale_of_one_element_is_a_scalar(tmp_path):
    weights = tensors("open_clip")
    weights["logit_scale"] = weights["logit_scale"].reshape(1)
    port = clip.load(copy("open_clip", tmp_path, weights))
    same(port, clip.load(folder("open_clip")))
