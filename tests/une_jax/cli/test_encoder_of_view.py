"""The model that made an encoder view is found again, as it made it, or refused."""

import dataclasses

import pytest
import small_zoo

from une_jax import zoo
from une_jax.cli import names
from une_jax.cli.encoder import encoder_of_view, load_encoder, named_view
from une_jax.errors import UneError

MODEL = names.resolve("mini-dinov3")


@pytest.fixture(scope="module")
def view():
    return dataclasses.replace(load_encoder(MODEL).views[0], name="mine")


def test_the_same_model_makes_the_same_view(view):
    found = encoder_of_view(view, rows=1)
    assert found.name == "mine" and found.views == (view,)
    assert found.batch_size == found.mesh.size  # no more than there is to compute


def test_a_recipe_that_built_the_view_is_used_again():
    made = load_encoder(MODEL, recipe="dinov3-paper", dtype="bfloat16").views[0]
    again = encoder_of_view(made).views[0]
    assert again == made and again.dtype == "float16"


def test_another_model_or_preprocessing_is_refused(view):
    with pytest.raises(UneError, match="mini-clip-p8 holds other weights than the model"):  # fmt: skip
        encoder_of_view(view, "mini-clip-p8")
    settings = view.settings | {"preprocessing": {"side": 3}}
    with pytest.raises(UneError, match="'mine' was built with another preprocessing"):
        encoder_of_view(dataclasses.replace(view, settings=settings))
    lost = dataclasses.replace(view, model_id="nowhere")
    with pytest.raises(UneError, match="neither a folder nor a built-in name"):
        encoder_of_view(lost)


def test_a_view_is_found_by_its_name_or_is_the_first(tmp_path):
    opened = zoo.open(small_zoo.build(tmp_path / "zoo"))
    clip, dino = (opened[name].view for name in ("mini-clip", "mini.dino"))
    assert named_view(opened, None) == (clip, None)
    assert named_view(opened, "mini.dino=some/where") == (dino, "some/where")
    assert named_view(opened, "mini-sd") is None  # a generator
