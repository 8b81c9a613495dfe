"""Builds that stop and go on: they end as if they had never stopped."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_zoo import contents

from une_jax import images, zoo


@pytest.fixture
def five(faces, tmp_path):
    """Five images of which the second is cut and the fourth is empty."""
    folder = tmp_path / "five"
    folder.mkdir()
    for file in sorted((faces / "img_align_celeba").iterdir())[:5]:
        shutil.copy(file, folder)
    cut, empty = folder / "000002.jpg", folder / "000004.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    empty.write_bytes(b"")
    return folder


@pytest.fixture
def five_args(build_args, five):
    args = list(build_args)
    args[args.index("--images") + 1] = five
    args[args.index("--shard-rows") + 1] = 3
    return [*args, "--limit", 5]


def test_an_interrupted_build_goes_on_to_the_same_bytes(
    run, build_args, built, tmp_path, monkeypatch
):
    commit = zoo.Writer.commit

    def interrupted(self, index, *rest, **options):
        commit(self, index, *rest, **options)
        if index == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zoo.Writer, "commit", interrupted)
        ran = run(*build_args, "--out", tmp_path / "zoo")
    assert ran.code == 130
    assert ran.err.splitlines()[-1] == (
        "une-jax: interrupted; run the same command to go on"
    )
    (problem,) = zoo.verify(tmp_path / "zoo")
    assert "unfinished, 16 of 24 rows" in problem

    ran = run(*build_args, "--out", tmp_path / "zoo")
    assert ran.code == 0 and "16 of 24 rows are there" in ran.err
    assert ran.out == f"{tmp_path / 'zoo'}: 24 rows ok, 0 failed\n"
    assert contents(tmp_path / "zoo") == contents(built)


def test_a_finished_build_does_nothing_again(run, build_args, built):
    before = {file: file.stat().st_mtime_ns for file in built.rglob("*")}
    ran = run(*build_args, "--out", built)
    assert ran.code == 0 and ran.out == f"{built}: 24 rows ok, 0 failed\n"
    assert {file: file.stat().st_mtime_ns for file in built.rglob("*")} == before


SLOWLY = """
import sys, time
from une_jax import cli, zoo
commit = zoo.Writer.commit
def slow(*args, **options):
    commit(*args, **options)
    time.sleep(1)
zoo.Writer.commit = slow
sys.exit(cli.main())
"""


def test_sigterm_ends_with_143_and_leaves_a_zoo_that_resumes(
    run, eyes, faces, tmp_path
):
    args = ["build", "--images", faces / "img_align_celeba", "--encoder", eyes]
    args += ["--shard-rows", 2, "--batch-size", 8, "--out", tmp_path / "zoo"]
    command = [sys.executable, "-c", SLOWLY, *map(str, args)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        first = tmp_path / "zoo/shards/00000.safetensors"
        while process.poll() is None and not first.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert err.splitlines()[-1] == "une-jax: terminated; run the same command to go on"
    assert "Traceback" not in err
    assert not zoo.open(tmp_path / "zoo").complete

    assert run(*args).code == 0
    assert zoo.verify(tmp_path / "zoo") == []
    assert len(zoo.open(tmp_path / "zoo").keys) == 24


def test_failed_rows_are_computed_again_when_asked(
    run, five_args, five, faces, built, tmp_path
):
    ran = run(*five_args, "--out", tmp_path / "zoo", "--json")
    assert ran.code == 0 and (ran.json["ok"], ran.json["failed"]) == (3, 2)
    assert [key for key, _ in ran.json["failures"]] == ["000002.jpg", "000004.jpg"]
    assert zoo.verify(tmp_path / "zoo") == []

    first = zoo.open(tmp_path / "zoo")
    were_ok = {view: np.asarray(first[view]) for view in first.views}
    for key in ("000002.jpg", "000004.jpg"):  # repaired: but who asked to try again?
        shutil.copy(faces / "img_align_celeba" / key, five)
    before = contents(tmp_path / "zoo")
    assert run(*five_args, "--out", tmp_path / "zoo", "--json").json["failed"] == 2
    assert contents(tmp_path / "zoo") == before

    again = ("--retry", "failed", "--json")
    ran = run(*five_args, "--out", tmp_path / "zoo", *again)
    assert ran.code == 0 and (ran.json["ok"], ran.json["failed"]) == (5, 0)
    assert zoo.verify(tmp_path / "zoo") == []
    repaired, whole = zoo.open(tmp_path / "zoo"), zoo.open(built)
    columns = ["key", "sha256", "status", "reason", *whole.attribute_names]
    assert repaired.rows.select(columns).equals(whole.rows.slice(0, 5).select(columns))
    for view in whole.views:
        np.testing.assert_allclose(repaired[view][:], whole[view][:5], atol=2e-5)
        np.testing.assert_array_equal(repaired[view][[0, 2, 4]], were_ok[view])


def test_what_fails_again_stays_failed_beside_what_is_repaired(
    run, five_args, five, faces, tmp_path
):
    assert run(*five_args, "--out", tmp_path / "zoo").code == 0
    ok = zoo.open(tmp_path / "zoo")
    before = {view: np.asarray(ok[view]) for view in ok.views}
    shutil.copy(faces / "img_align_celeba/000004.jpg", five)
    ran = run(*five_args, "--out", tmp_path / "zoo", "--retry", "failed")
    assert ran.code == 0 and "4 rows ok, 1 failed" in ran.out
    assert zoo.verify(tmp_path / "zoo") == []
    after = zoo.open(tmp_path / "zoo")
    assert after.keys == [key for key in images.list_images(five) if "2" not in key]
    for view, values in before.items():
        np.testing.assert_array_equal(after[view][[0, 1, 3]], values)
