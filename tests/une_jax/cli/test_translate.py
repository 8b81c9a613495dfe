"""``une-jax translate`` on tiny random pipelines."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny_models

from une_jax import image_metrics, images
from une_jax.cli import names
from une_jax.cli.generator import Settings, load_generator

FACES = ("000001.jpg", "000002.jpg", "000003.jpg")
COLUMNS = ("skip 0, guidance 1", "skip 0, guidance 4", "skip 2, guidance 1", "skip 2, guidance 4")  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another pipeline: of other weights, its VAE's too, in v-prediction."""
    folder = tmp_path_factory.mktemp("models") / "other"
    tiny_models.write_pipeline(folder, seed=1)
    file = folder / "scheduler/scheduler_config.json"
    tiny_models.change_json(file, prediction_type="v_prediction")
    return folder


@pytest.fixture(scope="module")
def three(faces, tmp_path_factory):
    """A folder of three faces."""
    folder = tmp_path_factory.mktemp("three")
    for name in FACES:
        shutil.copy(faces / "img_align_celeba" / name, folder)
    return folder


@pytest.fixture
def translate(run, tiny, other, three, tmp_path):
    """The command with its usual options, others after or over them."""

    def translated(*args, ok=True, out=tmp_path / "out"):
        given = dict(zip(args[::2], args[1::2], strict=True))
        how = {"--images": [three], "--from": tiny, "--to": other, "--out": out, "--steps": 3}  # fmt: skip
        words = ["translate", "--json"]
        for option, value in (how | given).items():
            words += [option, *(value if isinstance(value, list) else [value])]
        ran = run(*words)
        if not ok:
            assert ran.code == 1 and ran.out == ""
            (error,) = ran.errors
            return error
        assert ran.code == 0, ran.err
        return ran.json

    return translated


def opened(out, file):
    return np.asarray(images.decode(out / file), int)


def test_columns_files_numbers_and_what_a_second_run_does(
    run, translate, tiny, three, tmp_path
):
    out = tmp_path / "out"
    how = ("--skip", [0, 2], "--guidance-to", [1, 4], "--prompt-to", "a hat")
    result = translate(*how)
    labels = ["reconstruction", *COLUMNS]
    assert list(result["psnr"]) == labels
    told = json.loads((out / "translate.json").read_text())
    assert told == {k: v for k, v in result.items() if k != "out"} | {"grid": "grid.png"}  # fmt: skip
    assert told["settings"]["images"] == ["000001", "000002", "000003"]
    assert told["settings"]["from"]["model"] == "tiny" and not told["settings"]["shared_vae"]  # fmt: skip
    files = {name for row in told["translations"] for name in row["files"].values()}
    assert len(files) == 15 and "000002_skip_2_guidance_4.png" in files
    assert {f.name for f in out.iterdir()} == files | {"grid.png", "translate.json"}
    grid = images.decode(out / "grid.png").size
    assert grid[0] > 6 * 192 and grid[1] == 22 + 3 * (192 + 2)

    # The code of the source gives its image back, but for what the VAE loses.
    generator = load_generator(names.resolve(str(tiny)), Settings(steps=3), rows=3)
    pixels = np.stack([generator.prepare(images.decode(three / f)) for f in FACES])
    with jax.default_matmul_precision("float32"):
        lost = generator.autoencode(pixels).astype(int)
    rows = told["translations"]
    again = [opened(out, row["files"]["reconstruction"]) for row in rows]
    assert np.abs(np.stack(again) - lost).max() <= 1
    for label in labels:
        made = np.stack([opened(out, row["files"][label]) for row in rows])
        psnr = image_metrics.psnr(made.astype(np.float32) / 255, pixels.astype(np.float32) / 255)  # fmt: skip
        np.testing.assert_allclose([row["psnr"][label] for row in rows], psnr, atol=1e-3)  # fmt: skip
        assert result["psnr"][label] == pytest.approx(float(psnr.mean()), abs=1e-3)
    shown = {label: opened(out, rows[0]["files"][label]) for label in labels}
    assert np.abs(shown[COLUMNS[0]] - shown[COLUMNS[1]]).max() > 3  # guidance
    assert np.abs(shown[COLUMNS[0]] - shown[COLUMNS[2]]).max() > 3  # skip

    # Interrupted, it goes on; other settings are refused.
    gone = out / rows[1]["files"][COLUMNS[0]]
    before = gone.read_bytes()
    gone.unlink()
    assert translate(*how) == result and gone.read_bytes() == before
    error = translate(*how, "--seed", 1, ok=False)
    assert error == f"{out} holds other translations (see {out}/translate.json); choose another --out"  # fmt: skip


def test_ddim_codes_are_those_of_the_generator(translate, tiny, three, tmp_path):
    """One model there and back; some files, one named twice over."""
    args = ("--code", "ddim", "--to", tiny, "--images", [three / FACES[2], three / FACES[0]])  # fmt: skip
    result = translate(*args)
    assert result["settings"]["images"] == ["000003", "000001"]
    assert result["settings"]["eta"] is None and result["settings"]["shared_vae"]
    generator = load_generator(names.resolve(str(tiny)), Settings(steps=3), rows=2)
    pixels = [generator.prepare(images.decode(three / FACES[i])) for i in (2, 0)]
    with jax.default_matmul_precision("float32"):
        noise = generator.compute(np.stack(pixels), np.arange(2)).arrays["tiny"]
        wanted = generator.decode(noise).astype(int)
    for label in ("reconstruction", "translated"):
        files = [row["files"][label] for row in result["translations"]]
        found = np.stack([opened(tmp_path / "out", file) for file in files])
        assert np.abs(found - wanted).max() <= 1

    # The same file elsewhere is the same; another one by its name is not.
    for face, name in ((FACES[0], "same"), (FACES[1], "strange")):
        (tmp_path / name).mkdir()
        shutil.copy(three / face, tmp_path / name / FACES[0])
    assert translate(*args[:-1], [three / FACES[2], tmp_path / "same"]) == result
    error = translate(*args[:-1], [three / FACES[2], tmp_path / "strange"], ok=False)
    assert error.startswith(f"{tmp_path / 'out'} holds other translations")


def test_edit_friendly_and_words(run, tiny, other, three, tmp_path):
    ran = run(
        *("translate", "--images", three, "--from", tiny, "--to", other),
        *("--code", "edit-friendly", "--steps", 3, "--skip", 1),
        *("--limit", 1, "--out", tmp_path / "out"),
    )
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].startswith("1 images from tiny to other by edit-friendly")
    assert "other has a VAE of its own" in lines[0]
    assert lines[3].startswith("reconstruction") and lines[4].startswith("translated")
    told = json.loads((tmp_path / "out/translate.json").read_text())
    assert told["settings"]["eta"] == 1.0  # the code's own


@pytest.mark.parametrize(
    "args, said",
    [
        (("--eta", 0), "--eta 0: use above 0, up to 1 (without noise there is no code; that is --code ddim)"),
        (("--eta", 0.5, "--code", "ddim"), "--eta: --code ddim draws no noise; leave it out"),
        (("--skip", [0, 3]), "--skip 3: of 3 steps, leave out 0 to 2"),
        (("--guidance-to", "nan"), "--guidance-from and --guidance-to: use numbers, 1 for none"),
        (("--to", "mini-sd155"), "'mini-sd155' is neither a folder nor a built-in name; did you mean mini-sd15?"),
        (("--to", "mini-gan"), "mini-gan is a StyleGAN2: use a diffusion pipeline, in latents (mini-sd15, sd15, ...) or in pixels (mini-ddpm, ...)"),
        (("--to", "mini-sd15"), "tiny has images of 16 pixels, mini-sd15 of 64 pixels: one's code is none"),
        (("--guidance-to", 3), "--guidance-to says nothing without --prompt-to"),
        (("--images", ["nowhere"]), "image folder nowhere does not exist; check the path"),
    ],
)  # fmt: skip
def test_refusals(translate, tmp_path, args, said):
    assert translate(*args, ok=False).startswith(said)
    assert not (tmp_path / "out").exists()


def test_latents_of_another_shape_and_folders_in_use(translate, other, three, tmp_path):
    small = shutil.copytree(other, tmp_path / "small")
    tiny_models.change_json(small / "unet/config.json", sample_size=4)
    error = translate("--to", small, ok=False)
    assert error.startswith("tiny has latents of shape (4, 8, 8), small of (4, 4, 4)")
    assert "or, where the edges differ, --size" in error
    error = translate("--images", [three, three / FACES[0]], ok=False)
    assert "000001.jpg and 000001.jpg would both be written as 000001_*.png" in error
    assert translate("--out", three, ok=False).endswith("is not an empty folder; choose another --out")  # fmt: skip
    (tmp_path / "bad.png").write_bytes(b"no image")
    error = translate("--images", [tmp_path / "bad.png"], ok=False)
    assert error.startswith(f"{tmp_path / 'bad.png'}: ")
