import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_zoo import ATTRIBUTES, CLIP, DINO, KEYS, MANIFEST, OK, SD, build, latents

from une_jax import attributes, miniature, zoo
from une_jax.errors import UneError
from une_jax.interop import noises, stream


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sd15", "sd15"),
        ("sd21", "sd21"),
        ("sdxl", "sdxl"),
        ("lcmv7", "lcm7"),
        ("vitB16", "clip-b16"),
        ("vitL14", "clip-l14"),
        ("vitB16_oc", "openclip-b16"),
        ("ocB16", "openclip-b16"),
        ("vitL14_oc", "openclip-l14"),
        ("ocL14", "openclip-l14"),
        ("dinov3", "dinov3-l16"),
        ("dino", "dinov3-l16"),
        ("mae", "mae"),
        ("clip-b16", "clip-b16"),
    ],
)
def test_the_authors_spellings_are_ours(theirs, ours):
    assert noises.view_name(Path("data", f"noises_{theirs}.npy")) == ours
    assert noises.name_views([f"data/noises_{theirs}.npy"]) == {
        ours: Path(f"data/noises_{theirs}.npy")
    }


def test_any_file_may_be_named(tmp_path):
    assert noises.name_views(["b=x/noises_sd15.npy", "a=y.npy", "z.npy"]) == {
        "b": Path("x/noises_sd15.npy"),
        "a": Path("y.npy"),
        "z": Path("z.npy"),
    }
    # A path with a sign of equality is no name.
    assert noises.name_views(["runs/a=1/z.npy"]) == {"z": Path("runs/a=1/z.npy")}
    file = tmp_path / "noises_a=1.npy"
    with pytest.raises(UneError, match="'a=1' cannot be a view's name .* NAME=FILE"):
        noises.name_views([str(file)])
    assert noises.name_views([f"x={file}"]) == {"x": file}


def test_two_files_are_not_one_view():
    with pytest.raises(UneError, match="noises_dino.npy and noises_dinov3.npy are"):
        noises.name_views(["noises_dino.npy", "noises_dinov3.npy"])
    with pytest.raises(UneError, match="b.npy are both view 'a'; leave one out"):
        noises.name_views(["a.npy", "a=b.npy"])


def test_diffusion_models_have_noise_and_all_others_embeddings():
    for name in ("sd15", "sd21", "lcm7", *miniature.GENERATORS):
        assert noises.shape_of(name, 16384, {}) == (4, 64, 64)
    assert noises.shape_of("sd21-768", 36864, {}) == (4, 96, 96)
    assert noises.shape_of("sdxl", 65536, {}) == (4, 128, 128)
    for name, width in (("clip-b16", 512), ("clip-l14", 768), ("mine", 16384)):
        assert noises.shape_of(name, width, {}) == (width,)


def test_other_shapes_are_said():
    name, shape = noises.parse_shape("mine=4,32,48")
    assert noises.shape_of("mine", 4 * 32 * 48, {name: shape}) == (4, 32, 48)
    with pytest.raises(UneError, match="--shape mine=4,32,48: that is 6144 numbers"):
        noises.shape_of("mine", 6145, {name: shape})
    with pytest.raises(UneError, match="sd15 is a diffusion model, but 768 numbers"):
        noises.shape_of("sd15", 768, {})
    for spec in ("mine", "mine=4", "=4,4,4", "mine=4,4,4,4", "mine=0,4,4", "mine=a"):
        with pytest.raises(UneError, match=f"--shape {spec}: write VIEW=C,H,W"):
            noises.parse_shape(spec)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return zoo.open(build(tmp_path_factory.mktemp("zoo")))


def write(opened, folder, views=MANIFEST.views, split=None):
    counted = []
    counts = stream.count(opened, split)
    noises.write(opened, folder, views, counts, counted.append)
    assert sum(counted) == sum(counts.values())
    return folder


def test_a_zoo_becomes_one_array_a_view_and_says_which_row_is_which(opened, tmp_path):
    write(opened, tmp_path)
    for view, dtype in ((SD, "float16"), (CLIP, "float32"), (DINO, "float32")):
        got = np.load(tmp_path / f"noises_{view.name}.npy", allow_pickle=False)
        assert got.dtype == dtype
        want = latents(view)[OK].reshape(OK.sum(), -1)
        np.testing.assert_array_equal(got, want.astype(dtype))
    keys = [key for key, ok in zip(KEYS, OK, strict=True) if ok]
    assert (tmp_path / "keys.txt").read_text().splitlines() == keys
    table = attributes.read(tmp_path / "attributes.csv")
    assert list(table.keys) == keys and table.names == ("Male", "Smiling")
    np.testing.assert_array_equal(table.values, ATTRIBUTES[OK])
    assert len(list(tmp_path.iterdir())) == 5


def test_only_some_views_and_one_split(opened, tmp_path):
    write(opened, tmp_path, (SD,), "test")
    wanted = OK & (zoo.paper_split(10) == "test")
    got = np.load(tmp_path / "noises_mini-sd.npy")
    np.testing.assert_array_equal(got, latents(SD)[wanted].reshape(wanted.sum(), -1))
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["attributes.csv", "keys.txt", "noises_mini-sd.npy"]


def test_keys_and_attributes_that_are_hard_to_write(tmp_path):
    """Commas and quotes in keys; attributes that are unknown; and none at all."""
    keys = ['a, "b".jpg', "ä.jpg"]
    for names, file in ((("Male",), 'image_id,Male\n"a, ""b"".jpg",\n'), ((), None)):
        manifest = dataclasses.replace(
            MANIFEST,
            views=(CLIP,),
            source=zoo.describe_source("a", keys, 1),
            row_count=2,
            shard_rows=2,
            attribute_names=names,
        )
        table = {
            "key": keys,
            "sha256": ["0" * 64] * 2,
            "status": ["ok"] * 2,
            "reason": [""] * 2,
            "split": zoo.paper_split(2).tolist(),
        } | {name: pa.array([None, True]) for name in names}
        path = tmp_path / f"zoo{len(names)}"
        writer = zoo.create(path, manifest)
        writer.commit(0, {CLIP.name: np.ones((2, 8), np.float32)}, pa.table(table))
        (path / "out").mkdir()
        out = write(zoo.open(path), path / "out", (CLIP,))
        assert (out / "keys.txt").read_bytes().decode() == "\n".join([*keys, ""])
        if file is None:
            assert not (out / "attributes.csv").exists()
        else:
            written = (out / "attributes.csv").read_bytes().decode()
            assert written == f"{file}ä.jpg,1\n"
