"""A caption as a direction: of which CLIP, what it says, and what is refused."""

import jax
import numpy as np
import pytest
import small_zoo
from PIL import Image

from une_jax import zoo
from une_jax.cli import captioned, names
from une_jax.cli.encoder import load_encoder
from une_jax.errors import UneError
from une_jax.miniature import factors, render

MODEL = names.resolve("mini-clip-p8")


@pytest.fixture(scope="module")
def clip():
    return load_encoder(MODEL)


def test_a_caption_points_to_the_images_that_it_describes(clip):
    """Faces with a hat lie further along "wearing a hat" than faces without."""
    truth = factors.draw(jax.random.key(3), 64)
    pixels = np.asarray(render.faces(truth.scores, truth.nuisance))
    pictures = [Image.fromarray((255 * x).round().astype(np.uint8)) for x in pixels]
    prepared = np.stack([clip.prepare(picture) for picture in pictures])
    embedded = clip.compute(prepared, np.arange(64)).arrays[MODEL.name]
    hat = captioned.difference(
        MODEL,
        clip.views[0].weights_sha256,
        "a photo of a young man, wearing a hat",
        "a photo of a young man",
    )
    along = embedded @ hat
    has = np.asarray(truth.attributes)[:, factors.NAMES.index("Wearing_Hat")]
    assert along[has].mean() > along[~has].mean() + along.std()


def test_what_a_caption_cannot_be_is_an_error(clip):
    sha = clip.views[0].weights_sha256
    with pytest.raises(UneError, match="are the same to mini-clip-p8"):
        captioned.difference(MODEL, sha, "a hat", "a hat")
    with pytest.raises(UneError, match="holds other weights than the view's model"):
        captioned.difference(MODEL, "0" * 64, "a hat", "")
    dino = load_encoder(names.resolve("mini-dinov3")).views[0]
    with pytest.raises(UneError, match="has no text tower: choose a CLIP"):
        captioned.difference(names.resolve("mini-dinov3"), dino.weights_sha256, "a hat", "")  # fmt: skip


def test_a_view_is_found_and_several_must_be_chosen_from(tmp_path):
    opened = zoo.open(small_zoo.build(tmp_path / "zoo"))
    with pytest.raises(UneError, match="has mini-clip, mini.dino.: choose with --enc"):
        captioned.source_of(opened, None)
    view, model = captioned.source_of(opened, "mini-clip")
    assert view == "mini-clip" and model.source == "some/mini-clip"
    view, model = captioned.source_of(opened, "mini-clip=mini-clip-p8")
    assert view == "mini-clip" and model.name == "mini-clip-p8"
    with pytest.raises(UneError, match="mini-sd is no encoder view but a generator"):
        captioned.source_of(opened, "mini-sd")
    with pytest.raises(UneError, match="mini-clop"):
        captioned.source_of(opened, "mini-clop")
