import os

import pytest
from small_zoo import contents

from une_jax.errors import UneError
from une_jax.interop import whole
from une_jax.zoo import atomic

TEMP = f"{atomic.TEMP_PREFIX}out"


def fill(folder):
    (folder / "card.md").write_text("card")
    (folder / "data/rows").write_text("rows")


FILLED = {"card.md": b"card", "data/rows": b"rows"}


def test_a_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "deep/er/out"
    with whole.whole_folder(out, "data") as folder:
        fill(folder)
        assert not out.exists()
    assert contents(out) == FILLED
    assert os.listdir(out.parent) == ["out"]


def test_an_empty_folder_may_be_there_even_behind_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with whole.whole_folder(tmp_path / "link", "data") as folder:
        fill(folder)
    assert contents(tmp_path / "real") == FILLED
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, UneError])
def test_nothing_is_left_of_what_was_interrupted(tmp_path, error):
    with pytest.raises(error):
        with whole.whole_folder(tmp_path / "out", "data") as folder:
            fill(folder)
            raise error("stop")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_replaced(tmp_path):
    (tmp_path / TEMP / "data").mkdir(parents=True)
    (tmp_path / TEMP / "data/half").write_text("half")
    (tmp_path / TEMP / "half").write_text("half")
    with whole.whole_folder(tmp_path / "out", "data") as folder:
        fill(folder)
    assert contents(tmp_path) == {f"out/{name}": data for name, data in FILLED.items()}


def test_what_is_there_is_never_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis").write_text("my only copy")
    for out in (tmp_path / "out", tmp_path / "out/thesis"):
        with pytest.raises(UneError, match="is not an empty folder; choose another"):
            with whole.whole_folder(out):
                raise AssertionError("never entered")
    assert contents(tmp_path) == {"out/thesis": b"my only copy"}


def test_one_who_was_faster_wins(tmp_path):
    """Somebody else fills the folder while this one is being written."""
    with pytest.raises(UneError, match="cannot write .*out: Directory not empty"):
        with whole.whole_folder(tmp_path / "out", "data") as folder:
            fill(folder)
            (tmp_path / "out").mkdir()
            (tmp_path / "out/theirs").write_text("theirs")
    assert contents(tmp_path) == {"out/theirs": b"theirs"}


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    with pytest.raises(UneError, match="cannot write .*out: No space left on device"):
        with whole.whole_folder(tmp_path / "out", "data") as folder:
            fill(folder)
            raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_all_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """After a power cut the name means the whole folder, so it comes last."""
    seen = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor):
        seen.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    def rename(old, new):
        seen.append("renamed")
        real_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with whole.whole_folder(tmp_path / "out", "data") as folder:
        fill(folder)
        seen.clear()
    assert seen == ["card.md", "rows", "data", TEMP, "renamed", tmp_path.name]
