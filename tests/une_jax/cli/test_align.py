import csv

import numpy as np
import pytest
from PIL import Image

from une_jax import zoo
from une_jax.report import alignment, latents, probing


@pytest.fixture(scope="module")
def aligned(run, built, tmp_path_factory):
    """The command's JSON, and the folder with what it wrote beside."""
    out = tmp_path_factory.mktemp("align")
    files = ("--csv", out / "t" / "align.csv", "--figure", out / "f" / "align.png")
    ran = run("align", built, "--json", *files)
    assert ran.code == 0, ran.err
    return ran.json, out


def test_the_table_is_that_of_the_report(built, aligned):
    result, _ = aligned
    opened = zoo.open(built)
    assert result["views"] == ["tiny", "eyes"]
    assert (result["train_rows"], result["test_rows"]) == (19, 5)
    probed = [probing.probe_view(opened, view) for view in result["views"]]
    wanted = alignment.table(opened, result["views"], probed=probed)
    assert len(wanted) == 2
    for got, row in zip(result["table"], wanted, strict=True):
        assert list(got) == list(row)
        assert (got["source"], got["target"]) == (row["source"], row["target"])
        numbers = [k for k in row if k not in ("source", "target")]
        got, row = ([np.nan if r[k] is None else r[k] for k in numbers] for r in (got, row))  # fmt: skip
        np.testing.assert_allclose(got, row, rtol=1e-3, atol=1e-4)


def test_it_writes_the_table_and_the_figure(aligned):
    result, out = aligned
    with (out / "t" / "align.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["r2"]) for row in rows] == [row["r2"] for row in result["table"]]
    with Image.open(out / "f" / "align.png") as figure:
        assert figure.width > 300


def test_text_says_how_to_read_it(run, built):
    ran = run("align", built, "--view", "eyes", "tiny", "--limit", 12, "--folds", 3)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("12 train rows, 5 test rows (by chance, 20.0%")
    assert "-target and -source are the percentage points" in ran.out


def test_decode_draws_the_mapped_noise(run, built, tiny, tmp_path):
    file = tmp_path / "decoded.png"
    args = ("--decode", "eyes", "--generator", tiny, "--figure", file, "--json")
    ran = run("align", built, *args)
    assert ran.code == 0, ran.err
    with Image.open(file) as picture:
        pixels = np.asarray(picture)
    assert picture.height > 4 * 112  # a strip of own noise and three of mapped
    tiles = pixels[:, -112:]
    strips = [tiles[i * (len(tiles) // 4) + 8 :][:90] for i in range(4)]
    assert all((strips[0] != other).any() for other in strips[1:])


def test_mapped_noise_has_the_means_direction_and_noise_s_length(built):
    from une_jax.cli.align import mapped_noise

    opened = zoo.open(built)
    rows = opened.split("test")
    plain, long, fresh = mapped_noise(opened, "eyes", "tiny", rows, None).values()
    train = latents.flat(opened["tiny"][opened.split("train")])
    length = np.linalg.norm(train, axis=1).mean()
    shape = (len(rows), -1)
    norms = [np.linalg.norm(x.reshape(shape), axis=1) for x in (plain, long, fresh)]
    np.testing.assert_allclose(norms[1], length, rtol=1e-5)
    assert (norms[0] < length).all()
    np.testing.assert_allclose(norms[2], length, rtol=0.25)
    cosine = (plain * long).reshape(shape).sum(1) / (norms[0] * norms[1])
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)


@pytest.mark.parametrize(
    "args, error",
    [
        (("--view", "eyes"), "maps are between two views or more; there is eyes"),
        (("--limit", 2), "--limit is 2; use 3 or more"),
        (("--folds", 30), "folds is 30; use 2 to 9"),
        (("--decode", "eyes"), "--decode draws: say where with --figure FILE"),
        (("--decode", "tiny", "--figure", "x.png"), "--decode tiny: that is the generator's own noise"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(run, built, args, error):
    ran = run("align", built, *args)
    assert ran.code == 1 and ran.errors == [error]
