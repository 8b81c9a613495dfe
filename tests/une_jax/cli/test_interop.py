"""``import`` and ``export``: what goes out comes back, and bad input goes nowhere."""

import hashlib
import json
import os
import shutil

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from small_zoo import ATTRIBUTES, CLIP, DINO, KEYS, OK, SD, build, contents, latents

from une_jax import zoo
from une_jax.cli import import_

RNG = np.random.default_rng(0)
N = 10
NOISE = RNG.normal(size=(N, 4 * 8 * 8)).astype(np.float16)
CLIP_L14 = RNG.normal(size=(N, 12)).astype(np.float32)
PARTITION = {f"{i + 1:06d}.jpg": "0012"[i % 4] for i in range(20)}  # ten in train
TRAIN = [key for key, part in PARTITION.items() if part == "0"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture
def release(tmp_path):
    """Two files as the authors spell them."""
    folder = tmp_path / "release"
    folder.mkdir()
    np.save(folder / "noises_sd15.npy", NOISE)
    np.save(folder / "noises_vitL14.npy", CLIP_L14)
    return folder / "noises_sd15.npy", folder / "noises_vitL14.npy"


@pytest.fixture
def celeba(tmp_path):
    """Twenty images in CelebA's layout."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    for key in PARTITION:
        (root / "img_align_celeba" / key).write_text(key)
    lines = [f"{key} {-1 if i % 3 else 1} 1" for i, key in enumerate(PARTITION)]
    text = "\n".join(["20", "Male Young", *lines, ""])
    (root / "list_attr_celeba.txt").write_text(text)
    text = "".join(f"{key} {part}\n" for key, part in PARTITION.items())
    (root / "list_eval_partition.txt").write_text(text)
    text = "".join(f"{key} {int(key[:6])}\n" for key in PARTITION)
    (root / "identity_CelebA.txt").write_text(text)
    return root


def refused(run, *args, out=None):
    """The one error of a command that fails and leaves no ``out``."""
    ran = run(*args, *(() if out is None else ("--out", out)))
    assert ran.code == 1 and ran.out == ""
    assert out is None or not out.exists()
    (error,) = ran.errors
    return error


# --------------------------------------------------------------------- round trip


def test_export_to_npy_and_import_again(run, small, tmp_path):
    """float16 and float32 bit for bit; bfloat16 as float32, which holds it exactly."""
    out, back = tmp_path / "npy", tmp_path / "back"
    ran = run("export", small, "--to", "npy", "--out", out)
    assert ran.code == 0, ran.err
    assert "5 train and 2 test rows of mini-sd, mini-clip, mini.dino" in ran.out
    assert "mini.dino is bfloat16, and written as float32" in ran.out
    ran = run(
        *("import", *sorted(out.glob("noises_*.npy")), "--out", back),
        *("--keys", out / "keys.txt", "--attributes", out / "attributes.csv"),
        *("--shape", "mini-sd=4,2,2"),
    )
    assert ran.code == 0, ran.err
    assert zoo.verify(back) == []
    opened = zoo.open(back)
    assert opened.keys == [key for key, ok in zip(KEYS, OK, strict=True) if ok]
    np.testing.assert_array_equal(opened.attributes, ATTRIBUTES[OK])
    assert opened.attribute_names == ("Male", "Smiling")
    kinds = {view.name: (view.kind, view.dtype) for view in opened.manifest.views}
    assert kinds == {
        "mini-sd": ("generator", "float16"),
        "mini-clip": ("encoder", "float32"),
        "mini.dino": ("encoder", "float32"),
    }
    for view in (SD, CLIP):
        got, want = opened[view.name][:], latents(view)[OK]
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()
    np.testing.assert_array_equal(
        opened["mini.dino"][:], latents(DINO)[OK].astype(np.float32)
    )


# ------------------------------------------------------------------------- import


def test_import_of_the_authors_release(run, release, tmp_path):
    """Their names become ours, noise gets its shape, and rows only have numbers."""
    ran = run("import", *release, "--out", tmp_path / "zoo")
    assert ran.code == 0, ran.err
    assert ran.out == f"{tmp_path / 'zoo'}: 10 rows ok, 0 failed\n"
    opened = zoo.open(tmp_path / "zoo")
    assert opened.views == ("sd15", "clip-l14")
    assert opened["sd15"][:].tobytes() == NOISE.tobytes()
    assert opened["sd15"].shape == (10, 4, 8, 8)
    assert opened["clip-l14"][:].tobytes() == CLIP_L14.tobytes()
    assert opened.keys == [f"{i:06d}" for i in range(10)]
    assert opened.rows.column("sha256").to_pylist() == [""] * 10
    assert opened.rows.column("residual/sd15").null_count == 10
    assert opened.rows.column("split").to_pylist() == zoo.paper_split(10).tolist()
    assert zoo.verify(tmp_path / "zoo") == []
    noise, clip = opened.manifest.views
    assert noise.weights_sha256 == clip.weights_sha256 == "0" * 64
    assert clip.settings == {
        "imported_from": "noises_vitL14.npy",
        "file_sha256": hashlib.sha256(release[1].read_bytes()).hexdigest(),
        "file_dtype": "float32",
    }
    assert opened.manifest.source["hashed"] is False
    assert str(tmp_path) not in (tmp_path / "zoo/manifest.json").read_text()


def test_import_with_celebas_folder(run, release, celeba, tmp_path):
    """One partition of it: keys, attributes, further columns, and the images' sha256."""
    ran = run(
        *("import", *release, "--out", tmp_path / "zoo", "--shard-rows", 4),
        *("--images", celeba, "--partition", "train", "--hash-images"),
    )
    assert ran.code == 0, ran.err
    opened = zoo.open(tmp_path / "zoo")
    assert opened.keys == TRAIN
    male = [i % 3 == 0 for i, part in enumerate(PARTITION.values()) if part == "0"]
    assert opened.attribute_names == ("Male", "Young")
    assert opened.attributes.tolist() == [[m, True] for m in male]
    assert opened.rows.column("partition").to_pylist() == ["train"] * 10
    identity = [int(key.removesuffix(".jpg")) for key in TRAIN]
    assert opened.rows.column("identity").to_pylist() == identity
    assert opened.rows.column("sha256").to_pylist() == [
        hashlib.sha256(key.encode()).hexdigest() for key in TRAIN
    ]
    assert opened.manifest.source["kind"] == "celeba"
    assert opened.manifest.source["folder"] == "celeba"
    assert zoo.verify(tmp_path / "zoo") == []


def test_import_with_celebas_lists_alone(run, release, celeba, tmp_path):
    """Who has the release need not have the images."""
    shutil.move(celeba / "img_align_celeba", tmp_path / "elsewhere")
    ran = run(
        *("import", *release, "--out", tmp_path / "zoo"),
        *("--keys", celeba / "list_eval_partition.txt", "--partition", "train"),
        *("--attributes", celeba / "list_attr_celeba.txt"),
    )
    assert ran.code == 0, ran.err
    opened = zoo.open(tmp_path / "zoo")
    assert opened.keys == TRAIN and opened.attributes[:, 1].all()
    assert opened.manifest.source["folder"] == "list_eval_partition.txt"


def test_an_image_that_cannot_be_read_fails_its_row(run, release, celeba, tmp_path):
    missing = celeba / "img_align_celeba" / TRAIN[3]
    missing.unlink()
    missing.symlink_to("nowhere.jpg")
    images = ("--images", celeba, "--partition", "train", "--hash-images")
    ran = run("import", *release, "--out", tmp_path / "zoo", *images, "--json")
    assert ran.code == 0 and ran.json["ok"] == 9
    ((key, reason),) = ran.json["failures"]
    assert key == TRAIN[3] and reason.startswith("cannot read")
    assert zoo.verify(tmp_path / "zoo") == []


def test_rows_that_are_not_finite_fail_with_a_reason_in_all_views(
    run, release, tmp_path
):
    noise, clip = NOISE.copy(), CLIP_L14.astype(np.float64)
    noise[2, 5], noise[7, 0] = np.nan, np.inf
    clip[7, 1], clip[9, 0] = np.nan, 1e300  # too large for a float32
    np.save(release[0], noise)
    np.save(release[1], clip)
    ran = run("import", *release, "--out", tmp_path / "zoo", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["failures"] == [
        ["000002", "sd15 is not finite"],
        ["000007", "sd15 is not finite"],
        ["000009", "clip-l14 is not finite"],
    ]
    assert ran.json["notes"] == ["noises_vitL14.npy: float64, kept as float32"]
    opened = zoo.open(tmp_path / "zoo")
    good = np.isin(np.arange(N), [2, 7, 9], invert=True)
    np.testing.assert_array_equal(opened["clip-l14"][:], CLIP_L14[good])
    np.testing.assert_array_equal(opened["sd15"][:].reshape(7, -1), NOISE[good])
    assert zoo.verify(tmp_path / "zoo") == []


@pytest.mark.parametrize("after", [0, 1, 2])
def test_import_goes_on_where_it_was_stopped(
    run, release, tmp_path, monkeypatch, after
):
    """And what it leaves is what it had left unstopped, byte for byte."""
    args = ("import", *release, "--shard-rows", 4, "--out")
    assert run(*args, tmp_path / "straight").code == 0
    commit, shards = zoo.Writer.commit, []

    def stopping(self, index, *rest):
        if len(shards) == after:
            raise KeyboardInterrupt
        shards.append(index)
        commit(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(zoo.Writer, "commit", stopping)
        assert run(*args, tmp_path / "zoo").code == 130
    assert len(zoo.open(tmp_path / "zoo").manifest.shards) == after
    ran = run(*args, tmp_path / "zoo")
    assert ran.code == 0, ran.err
    assert f"{10 - 4 * after}/{10 - 4 * after} images" in ran.err
    assert contents(tmp_path / "zoo") == contents(tmp_path / "straight")
    before = contents(tmp_path / "zoo")
    assert run(*args, tmp_path / "zoo").code == 0  # nothing left to do
    assert contents(tmp_path / "zoo") == before


def test_shards_that_another_import_wrote_first_are_left(
    run, release, tmp_path, monkeypatch
):
    args = ("import", *release, "--shard-rows", 4, "--out")
    assert run(*args, tmp_path / "straight").code == 0
    commit = zoo.Writer.commit

    def twice(self, *args):
        commit(self, *args)
        commit(self, *args)

    monkeypatch.setattr(zoo.Writer, "commit", twice)
    assert run(*args, tmp_path / "zoo").code == 0
    assert contents(tmp_path / "zoo") == contents(tmp_path / "straight")


def test_records_are_folded_now_and_then(run, release, tmp_path, monkeypatch):
    monkeypatch.setattr(import_, "FOLD_EVERY", 2)
    fold, folded = zoo.Writer.fold, []

    def counting(self):
        fold(self)
        folded.append(
            len(json.loads((self.path / "manifest.json").read_text())["shards"])
        )

    monkeypatch.setattr(zoo.Writer, "fold", counting)
    args = ("import", *release, "--shard-rows", 2)
    assert run(*args, "--out", tmp_path / "zoo").code == 0
    assert folded == [2, 4, 5]


def test_other_files_are_not_mixed_in(run, release, tmp_path):
    args = ("import", *release, "--out", tmp_path / "zoo")
    assert run(*args).code == 0
    before = contents(tmp_path / "zoo")
    np.save(release[0], NOISE + np.float16(1))
    (error,) = run(*args).errors
    assert "has other settings (views.sd15.settings.file_sha256: " in error
    assert contents(tmp_path / "zoo") == before


def test_import_refuses(run, release, celeba, tmp_path):
    sd15, clip = release

    def error(*args):
        return refused(run, "import", *args, out=tmp_path / "zoo")

    assert error() == "nothing to import: give noises_<model>.npy files"
    assert "no.npy: cannot read: No such file" in error(tmp_path / "no.npy")
    np.save(clip, CLIP_L14[:9])
    assert error(sd15, clip) == (
        f"{clip} has 9 rows, and {sd15} has 10; all should be of the same images"
    )
    assert "are both view 'sd15'" in error(sd15, f"sd15={clip}")
    assert error(sd15, "--images", celeba) == (
        f"the files have 10 rows, and {celeba} lists 20 images; are they one "
        "--partition of them?"
    )
    assert error(sd15, "--images", celeba, "--partition", "test") == (
        f"the files have 10 rows, and {celeba} lists 5 images"
    )
    lists = ("--keys", celeba / "list_attr_celeba.txt")
    assert "lists 20 images; are they one --partition" in error(sd15, *lists)
    assert "give list_eval_partition.txt" in error(sd15, *lists, "--partition", "test")
    assert "leave one out" in error(sd15, *lists, "--images", celeba)
    assert "of which --images or --keys?" in error(sd15, "--partition", "train")
    assert "give the images, with --images" in error(sd15, "--hash-images")
    attributes = ("--attributes", celeba / "list_attr_celeba.txt")
    assert error(sd15, *attributes).startswith("no attributes for 000000")
    assert "--shape a=...: the views are sd15" in error(sd15, "--shape", "a=1,2,3")
    assert "that is 6 numbers, and the file has 256" in error(
        sd15, "--shape", "sd15=1,2,3"
    )
    assert "shard_rows is 0" in error(sd15, "--shard-rows", 0)


def test_shapes_may_be_said_one_by_one(run, release, tmp_path):
    shapes = ("--shape", "clip-l14=3,2,2", "--shape", "sd15=1,16,16")
    assert run("import", *release, "--out", tmp_path / "zoo", *shapes).code == 0
    opened = zoo.open(tmp_path / "zoo")
    assert opened["sd15"].shape == (10, 1, 16, 16)
    assert opened["clip-l14"].shape == (10, 3, 2, 2)


# ------------------------------------------------------------------------- export


def test_export_to_hugging_face(run, small, tmp_path):
    out = tmp_path / "hf"
    ran = run("export", small, "--to", "hf", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json == {
        "zoo": str(small),
        "to": "hf",
        "out": str(out),
        "rows": {"train": 5, "test": 2},
        "views": ["mini-sd", "mini-clip", "mini.dino"],
        "notes": ["mini.dino is bfloat16, and written as float32"],
    }
    data = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: rows.num_rows for name, rows in data.items()} == ran.json["rows"]
    got = data["test"].with_format("numpy", columns=["mini-sd"], dtype=np.float16)[:]
    want = latents(SD)[OK & (zoo.paper_split(10) == "test")]
    assert got["mini-sd"].tobytes() == want.tobytes()


def test_export_of_some_views_and_one_split(run, small, tmp_path):
    """Both spellings of a repeated option."""
    views = ("--view", "mini-sd", "--view", "mini-clip")
    ran = run(
        *("export", small, "--to", "npy", "--out", tmp_path / "npy"),
        *(*views, "--split", "train"),
    )
    assert ran.code == 0, ran.err
    assert ran.out == f"{tmp_path / 'npy'}: 5 train rows of mini-sd, mini-clip\n"
    files = sorted(file.stem for file in (tmp_path / "npy").glob("*.npy"))
    assert files == ["noises_mini-clip", "noises_mini-sd"]
    assert np.load(tmp_path / "npy/noises_mini-sd.npy").shape == (5, 16)


def test_export_to_a_table_says_how_it_is_opened(run, small, tmp_path):
    table = ("export", small, "--to", "table", "--out")
    ran = run(*table, tmp_path / "a")
    assert ran.out == (
        f"{tmp_path / 'a'}: 8 train and 2 test rows\n"
        f"  embedding-atlas {tmp_path / 'a/rows.parquet'} --disable-projection\n"
    )
    assert pq.read_table(tmp_path / "a/rows.parquet").num_rows == 10
    ran = run(*table, tmp_path / "b", "--view", "mini-clip")
    x = latents(CLIP)[OK].astype(np.float64)
    variance = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    shares = 100 * variance[:2] / variance.sum()
    assert ran.out == (
        f"{tmp_path / 'b'}: 5 train and 2 test rows of mini-clip\n"
        f"  x and y have {shares[0]:.3g} % and {shares[1]:.3g} % of the variance of "
        "mini-clip\n"
        f"  embedding-atlas {tmp_path / 'b/rows.parquet'} --x x --y y\n"
    )
    names = pq.read_schema(tmp_path / "b/rows.parquet").names
    assert names[-2:] == ["x", "y"]


@pytest.mark.parametrize("to", ["hf", "npy", "table"])
def test_export_leaves_nothing_half_written(run, small, tmp_path, monkeypatch, to):
    """Neither a damaged zoo nor an interruption nor a full disk leaves a file."""
    view = ("--view", "mini-clip") if to == "table" else ()
    broken = shutil.copytree(small, tmp_path / "broken")
    file = broken / "shards/00002.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    out = tmp_path / "out/out"
    error = refused(run, "export", broken, "--to", to, *view, out=out)
    assert "00002.safetensors: damaged, its sha256 is not the manifest's" in error
    for problem, code in ((KeyboardInterrupt, 130), (OSError(28, "No space left"), 1)):

        def fail(descriptor, problem=problem):
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            ran = run("export", small, "--to", to, *view, "--out", out)
        assert ran.code == code and ran.out == ""
    assert ran.errors == [f"cannot write {out}: No space left"]
    assert os.listdir(tmp_path / "out") == []
    assert run("export", small, "--to", to, *view, "--out", out).code == 0


@pytest.mark.parametrize("to", ["hf", "npy", "table"])
def test_export_refuses(run, small, tmp_path, to):
    def error(*args, out=tmp_path / "out"):
        return refused(run, "export", "--to", to, *args, out=out)

    assert error(tmp_path).startswith(f"{tmp_path} is no NoiseZoo")
    half = build(tmp_path / "half", shards=[1])
    assert error(half) == (
        f"{half} is unfinished, 1 of 3 shards are there; finish the build, then export"
    )
    assert "has no view 'mini'; it has mini-" in error(small, "--view", "mini")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("my only copy")
    for out in (mine, mine / "thesis"):
        ran = run("export", small, "--to", to, "--out", out)
        assert ran.errors == [f"{out} is not an empty folder; choose another --out"]
    assert contents(mine) == {"thesis": b"my only copy"}


def test_a_table_has_one_projection(run, small, tmp_path):
    views = ("--view", "mini-sd", "mini-clip")
    error = refused(run, "export", small, "--to", "table", *views, out=tmp_path / "out")
    assert "give one --view" in error
