"""Bad input: one line that names it, exit code 1 (2 for bad usage), nothing written."""

import shutil

import pytest
from safetensors.numpy import load_file, save_file
from small_zoo import contents
from tiny_models import change_json

from une_jax import miniature

UNET = "unet/diffusion_pytorch_model.safetensors"


def refuse(run, *args, out=None):
    """The one error of a command that fails and leaves no ``out``."""
    ran = run(*args)
    assert ran.code == 1 and ran.out == ""
    assert out is None or not out.exists()
    (error,) = ran.errors
    return error


@pytest.fixture
def refuse_build(run, build_args, tmp_path):
    """The error of the small build with some of its options changed."""

    def refuse_changed(*changes):
        args = [*build_args, "--out", tmp_path / "zoo"]
        for option, value in zip(changes[::2], changes[1::2], strict=True):
            if option in args:
                args[args.index(option) + 1] = value
            else:
                args += [option, value]
        return refuse(run, *args, out=tmp_path / "zoo")

    return refuse_changed


@pytest.fixture
def broken(tiny, tmp_path):
    """A copy of the tiny pipeline, to be broken."""
    return shutil.copytree(tiny, tmp_path / "broken")


def test_folders_that_hold_no_images(refuse_build, tmp_path):
    missing = tmp_path / "nowhere"
    error = refuse_build("--images", missing)
    assert error == f"image folder {missing} does not exist; check the path"
    (tmp_path / "empty").mkdir()
    assert "no images in" in refuse_build("--images", tmp_path / "empty")
    (tmp_path / "file").touch()
    assert "is not a folder" in refuse_build("--images", tmp_path / "file")


def test_attributes_that_do_not_fit_the_images(refuse_build, faces, tmp_path):
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    file = tmp_path / "list.txt"
    file.write_text("\n".join(["23", lines[1], *lines[3:]]))
    error = refuse_build("--attributes", file)
    assert error.startswith("no attributes for 000001.jpg")
    more = lines[2].replace("000001", "000099")
    file.write_text("\n".join(["25", *lines[1:], more]))
    error = refuse_build("--attributes", file)
    assert error.startswith("attributes of unknown images: 000099.jpg")
    file.write_text("\n".join([*lines[:5], lines[5].replace(" 1", " yes")]))
    assert f"{file}, line 6: value 'yes'" in refuse_build("--attributes", file)
    assert "cannot read" in refuse_build("--attributes", tmp_path / "no.txt")


def test_models_that_are_not_there(refuse_build, tmp_path):
    error = refuse_build("--generator", "x=mini-sd155")
    assert error == (
        "'mini-sd155' is neither a folder nor a built-in name; did you mean mini-sd15?"
    )
    error = refuse_build("--encoder", "resnet")
    assert f"known: {', '.join((*miniature.GENERATORS, *miniature.FAMILIES))}" in error
    assert "mini-clip-p8" in error
    path = tmp_path / "a" / "b"
    assert str(path) in refuse_build("--encoder", f"x={path}")
    assert "names no model: write NAME=PATH_OR_ID" in refuse_build("--generator", "x=")
    # Tests, like users on a train, are offline.
    assert "could not be downloaded" in refuse_build("--encoder", "no-one/nothing")


def test_no_model_at_all(run, faces, tmp_path):
    images = faces / "img_align_celeba"
    error = refuse(run, "build", "--images", images, "--out", tmp_path / "zoo")
    assert error == "nothing to do: give --generator or --encoder"


def test_model_directories_that_are_broken(refuse_build, broken, eyes):
    model = f"x={broken}"
    tensors = load_file(broken / UNET)
    tensors.pop("conv_in.weight")
    save_file(tensors, broken / UNET)
    assert "conv_in.weight: missing tensor" in refuse_build("--generator", model)
    (broken / UNET).write_bytes(b"\x08")
    assert "is not a whole safetensors file" in refuse_build("--generator", model)
    (broken / UNET).unlink()
    assert "has no .safetensors weights" in refuse_build("--generator", model)
    change_json(broken / "unet/config.json", act_fn="gelu")
    error = refuse_build("--generator", model)
    assert "act_fn = 'gelu' is not supported" in error
    (broken / "unet/config.json").unlink()
    error = refuse_build("--generator", model)
    assert error == f"{broken / 'unet/config.json'} is missing"
    change_json(broken / "model_index.json", _class_name="FluxPipeline")
    assert "FluxPipeline; supported: Stable" in refuse_build("--generator", model)
    assert "model_index.json is missing" in refuse_build("--generator", f"x={eyes}")


def test_an_encoder_that_is_none(refuse_build, tiny, eyes, tmp_path):
    error = refuse_build("--encoder", f"x={tiny / 'text_encoder'}")
    assert "has no image tower" in error
    other = shutil.copytree(eyes, tmp_path / "other")
    crop = {"height": 32, "width": 32}
    change_json(other / "preprocessor_config.json", crop_size=crop)
    error = refuse_build("--encoder", f"x={other}")
    assert "makes images of 32 pixels" in error


def test_one_name_for_two_models(refuse_build, eyes):
    assert "have one name twice" in refuse_build("--encoder", f"tiny={eyes}")


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--limit", 0, "--limit 0: use 1 or more"),
        ("--batch-size", 0, "--batch-size 0: use 1 or more"),
        ("--size", 0, "--size 0: use 1 or more"),
        ("--size", 17, "--size 17 is not a multiple of 2"),
        ("--shard-rows", 0, "--shard-rows 0: use 1 or more"),
        ("--steps", 1, "steps is 1; eval_at='source' inverts with 2 or more"),
        ("--steps", 2000, "steps is 2000; use 1 to 1000"),
    ],
)
def test_numbers_out_of_range(refuse_build, option, value, problem):
    assert refuse_build(option, value).startswith(problem)


def test_an_out_folder_that_is_no_zoo_is_left_alone(run, build_args, tmp_path):
    (tmp_path / "thesis.txt").write_text("my only copy")
    error = refuse(run, *build_args, "--out", tmp_path)
    assert "is not empty and has no manifest.json" in error
    error = refuse(run, *build_args, "--out", tmp_path / "thesis.txt")
    assert "is a file" in error
    assert contents(tmp_path) == {"thesis.txt": b"my only copy"}


@pytest.mark.parametrize("command", ["verify", "probe", "report", "edit"])
def test_a_zoo_that_is_none(run, faces, tmp_path, command):
    image = faces / "img_align_celeba/000001.jpg"
    out = () if command in ("verify", "probe") else ("--out", tmp_path / "out")
    more = ("--image", image, "--attribute", "Male") if command == "edit" else ()
    zoo = ("--zoo", tmp_path) if command == "edit" else (tmp_path,)
    error = refuse(run, command, *zoo, *more, *out, out=tmp_path / "out")
    assert error.startswith(f"{tmp_path} is no NoiseZoo")


def test_attributes_that_the_zoo_does_not_know(run, built, faces, tmp_path):
    image = faces / "img_align_celeba/000001.jpg"
    edit = ("edit", "--zoo", built, "--image", image, "--out", tmp_path / "out")
    error = refuse(run, *edit, "--attribute", "smilling", out=tmp_path / "out")
    assert error == "unknown attribute 'smilling'; did you mean Smiling?"
    keep = ("--attribute", "Male", "--keep", "Young", "--keep", "eyeglases")
    error = refuse(run, *edit, *keep, out=tmp_path / "out")
    assert "did you mean Eyeglasses" in error
    error = refuse(run, *edit, "--attribute", "Male", "--keep", "Male")
    assert error == "--keep Male would undo the edit itself"
    report = ("report", built, "--out", tmp_path / "out", "--attribute", "mael")
    assert "did you mean Male" in refuse(run, *report, out=tmp_path / "out")


def test_images_strengths_and_views_that_edit_cannot_use(run, built, faces, tmp_path):
    image = faces / "img_align_celeba/000001.jpg"
    edit = ("edit", "--zoo", built, "--attribute", "Male", "--out", tmp_path / "out")
    error = refuse(run, *edit, "--image", tmp_path / "no.jpg", out=tmp_path / "out")
    assert error == f"{tmp_path / 'no.jpg'}: no such file"
    for strength in ("nan", "inf"):
        more = ("--image", image, "--strength", strength)
        assert "--strength" in refuse(run, *edit, *more, out=tmp_path / "out")
    error = refuse(run, *edit, "--image", image, "--view", "tiny.x0")
    assert error.endswith("has the generator views tiny: choose with --view")
    # Nothing in the zoo says where on this machine the model lies.
    error = refuse(run, *edit, "--image", image, out=tmp_path / "out")
    assert "'tiny'" in error and "--generator" in error


def test_a_generator_of_other_weights(run, built, tiny, faces, tmp_path):
    other = shutil.copytree(tiny, tmp_path / "tiny")
    tensors = load_file(other / UNET)
    tensors["conv_in.bias"] += 1
    save_file(tensors, other / UNET)
    image = faces / "img_align_celeba/000001.jpg"
    edit = ("edit", "--zoo", built, "--attribute", "Male", "--image", image)
    error = refuse(run, *edit, "--generator", other, "--out", tmp_path / "out")
    assert "holds other weights than the model that made view 'tiny'" in error
    assert not (tmp_path / "out").exists()


def test_a_file_system_that_refuses(run, built, tmp_path):
    (tmp_path / "file").touch()
    table = tmp_path / "file" / "table.csv"
    error = refuse(run, "probe", built, "--view", "eyes", "--csv", table)
    assert str(tmp_path / "file") in error


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("bulid",),
        ("faces",),
        ("faces", "--out", "x", "--colour", "red"),
        ("faces", "--out", "x", "--n", "many"),
        ("build", "--images", "x", "--out", "y", "--eval-at", "noon"),
        ("edit", "--attribute", "Male", "--attribute", "Young"),
    ],
)
def test_bad_usage_is_2(run, args):
    ran = run(*args)
    assert ran.code == 2 and ran.out == "" and "une-jax" in ran.err
