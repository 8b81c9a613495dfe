"""CLIP against transformers: blocks to 1e-5, the towers to 2e-5."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closeness import rel
from live import block, from_torch, normal, part, saved, scattered, to_torch, torch
from safetensors.numpy import load_file, save_file

from ports import clip

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

END = 53
TEXT = dict(
    vocab_size=60,  # words after the end of text, as added tokens are
    hidden_size=12,
    intermediate_size=20,
    projection_dim=10,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=8,
    bos_token_id=52,
    eos_token_id=END,
    pad_token_id=END,
)
VISION = dict(
    hidden_size=16,
    intermediate_size=24,
    projection_dim=10,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=14,  # no multiple of the patch
    patch_size=4,
)


def captions(*, added=False):
    """Word ids, ended and padded; with a word after the end's id if ``added``."""
    ids = np.random.default_rng(0).integers(0, 52, (3, 8)).astype(np.int32)
    ids[:, 0] = 52
    for row, length in zip(ids, (2, 5, 7), strict=True):
        row[length:] = END
    if added:
        ids[2, 2] = 58
    return ids


def both(act="quick_gelu", **text):
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=TEXT | {"hidden_act": act} | text,
        vision_config=VISION | {"hidden_act": act},
        projection_dim=10,
    )
    return scattered(transformers.CLIPModel(config))


def text_tower(kind, **changes):
    torch.manual_seed(0)
    return scattered(kind(transformers.CLIPTextConfig(**TEXT | changes)))


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_both_towers(tmp_path, act):
    model = both(act)
    port = clip.load(saved(model, tmp_path))
    pixels, ids = normal(2, 14, 14, 3), captions(added=True)
    out = model(input_ids=to_torch(ids), pixel_values=to_torch(pixels))
    image, text = jax.jit(port.apply)(port.params, pixels, ids)
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (image, text)]
    assert rel(unit[0], out.image_embeds) <= 2e-5
    assert rel(unit[1], out.text_embeds) <= 2e-5
    # Not normalised, they are what get_image_features gives.
    tower = model.vision_model(to_torch(pixels)).pooler_output
    assert rel(image, model.visual_projection(tower)) <= 2e-5
    assert rel(port.params["logit_scale"], model.logit_scale) == 0


@pytest.mark.parametrize("length", [8, 5])
def test_text_tower_of_a_pipeline(tmp_path, length):
    """transformers 5 saves it without its prefix; older files have it."""
    model = text_tower(transformers.CLIPTextModel)
    port = clip.load(saved(model, tmp_path / "new"))
    ids = captions()[:, :length]
    hidden = jax.jit(lambda p, i: port.apply(p, i, method="hidden_text"))
    expected = model(to_torch(ids)).last_hidden_state
    assert rel(hidden(port.params, ids), expected) <= 2e-5

    bare = load_file(tmp_path / "new" / "model.safetensors")
    assert not any(name.startswith("text_model.") for name in bare)
    old = {f"text_model.{name}": x for name, x in bare.items()}
    old["text_model.embeddings.position_ids"] = np.arange(8, dtype=np.int64)[None]
    (tmp_path / "old").mkdir()
    save_file(old, tmp_path / "old" / "model.safetensors")
    config = (tmp_path / "new" / "config.json").read_text()
    (tmp_path / "old" / "config.json").write_text(config)
    older = clip.load(str(tmp_path / "old"))
    jax.tree.map(np.testing.assert_array_equal, older.params, port.params)


@pytest.mark.parametrize("end", [END, 2])
def test_the_text_ends_at_its_token_and_in_older_configs_at_the_largest_id(
    tmp_path, end
):
    """``eos_token_id: 2`` means the old rule, which an added word misleads."""
    model = text_tower(transformers.CLIPTextModelWithProjection, eos_token_id=end)
    port = clip.load(saved(model, tmp_path))
    encode = jax.jit(lambda p, i: port.apply(p, i, method="encode_text"))
    for added in (False, True):
        ids = captions(added=added)
        expected = model(to_torch(ids)).text_embeds
        assert rel(encode(port.params, ids), expected) <= 2e-5
    assert port.config.vision is None and port.config.text_projection == 10


def test_vision_tower_with_its_projection(tmp_path):
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**VISION | {"hidden_act": "gelu"})
    model = scattered(transformers.CLIPVisionModelWithProjection(config))
    port = clip.load(saved(model, tmp_path))
    pixels = normal(2, 14, 14, 3)
    encode = jax.jit(lambda p, x: port.apply(p, x, method="encode_image"))
    got = encode(port.params, pixels)
    assert rel(got, model(to_torch(pixels)).image_embeds) <= 2e-5
    assert port.config.text is None


def test_a_config_that_names_only_what_differs_has_transformers_defaults(tmp_path):
    """Older files leave out what is a default: the activation, epsilon, heads, ..."""
    folder = tmp_path / "model"
    folder.mkdir()
    raw = {
        "architectures": ["CLIPModel"],
        "projection_dim": 10,
        "text_config": {},
        "vision_config": {"patch_size": 16},
    }
    (folder / "config.json").write_text(json.dumps(raw))
    config = clip.config_from_json(raw)
    theirs = transformers.CLIPConfig.from_pretrained(folder)
    for ours, other in (
        (config.text, theirs.text_config),
        (config.vision, theirs.vision_config),
    ):
        for name in ours.__dataclass_fields__:
            assert getattr(ours, name) == getattr(other, name), name


@pytest.fixture(scope="module")
def gelu(tmp_path_factory):
    """A torch model, its folder and its port, for the tests of single blocks."""
    folder = tmp_path_factory.mktemp("clip")
    model = both("gelu")
    return model, folder, clip.load(saved(model, folder))


def test_bfloat16_stays_near_float32(gelu):
    """Measured 0.9e-2 and 1.8e-2 of the largest value (one rounding is 3.9e-3)."""
    model, folder, _ = gelu
    half = clip.load(str(folder), dtype=jnp.bfloat16)
    pixels, ids = normal(2, 14, 14, 3), captions()
    image = jax.jit(lambda p, x: half.apply(p, x, method="encode_image"))
    hidden = jax.jit(lambda p, i: half.apply(p, i, method="hidden_text"))
    image, hidden = image(half.params, pixels), hidden(half.params, ids)
    assert image.dtype == jnp.bfloat16
    tower = model.vision_model(to_torch(pixels)).pooler_output
    expected = model.visual_projection(tower)
    assert rel(image.astype(jnp.float32), expected) < 2e-2
    expected = model.text_model(to_torch(ids)).last_hidden_state
    assert rel(hidden.astype(jnp.float32), expected) < 3.5e-2


@pytest.mark.parametrize("tower", ["text_model", "vision_model"])
def test_block(gelu, tower):
    """Causal in the text tower, not in the vision tower."""
    model, _, port = gelu
    config = port.config.text if tower == "text_model" else port.config.vision
    x = normal(2, 7, config.hidden_size)
    layer = getattr(model, tower).encoder.layers[0]
    causal = tower == "text_model"
    mask = torch.full((1, 1, 7, 7), -torch.inf).triu(1) if causal else None
    expected = layer(to_torch(x), mask)

    class Block(clip.Block):
        def __call__(self, x):
            return super().__call__(x, causal)

    params = part(port.params, (tower, "encoder", "layers", 0))
    got = block(lambda rngs: Block(config, rngs=rngs), params, x)
    assert rel(got, expected) <= 1e-5


def test_vision_embeddings(gelu):
    model, _, port = gelu
    pixels = normal(2, 14, 14, 3)
    got = block(
        lambda rngs: clip.VisionEmbeddings(port.config.vision, rngs=rngs),
        part(port.params, ("vision_model", "embeddings")),
        pixels,
    )
    assert got.shape == (2, 10, 16)
    assert rel(got, model.vision_model.embeddings(to_torch(pixels))) <= 1e-5
    assert from_torch(to_torch(pixels)).tolist() == pixels.tolist()
