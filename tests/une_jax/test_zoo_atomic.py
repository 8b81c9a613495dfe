"""Files complete or absent; what a living writer holds is nobody else's to remove."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from small_zoo import contents

from une_jax.errors import UneError
from une_jax.zoo import atomic


def test_each_file_is_synced_renamed_and_its_folder_synced(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def name_of(descriptor):
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", lambda d: (calls.append(name_of(d)), fsync(d)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))
    )
    atomic.write_bytes_atomically(tmp_path / "a", b"1")
    assert calls[0].startswith(".une-tmp-a.")
    assert calls[1:] == ["rename", tmp_path.name]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "fstat"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path, monkeypatch, call, number
):
    atomic.write_bytes_atomically(tmp_path / "a", b"old")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        problem = f"^cannot write .*/a: {os.strerror(number)}$"
        with pytest.raises(UneError, match=problem):
            atomic.write_bytes_atomically(tmp_path / "a", b"new")
    assert contents(tmp_path) == {"a": b"old"}


def test_a_disk_that_fills_up_amid_a_file_leaves_nothing(tmp_path, monkeypatch):
    write = os.write

    def filling(descriptor, data):
        if len(data) <= 500:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:100])

    monkeypatch.setattr(os, "write", filling)
    with pytest.raises(UneError, match="No space left on device"):
        atomic.write_bytes_atomically(tmp_path / "a", bytes(1000))
    assert contents(tmp_path) == {}


def test_writes_that_take_only_a_part_are_repeated(tmp_path, monkeypatch):
    write, data = os.write, bytes(range(256)) * 10
    monkeypatch.setattr(os, "write", lambda d, data: write(d, data[:7]))
    atomic.write_bytes_atomically(tmp_path / "a", data)
    assert contents(tmp_path) == {"a": data}


def test_a_staged_file_that_is_not_published_is_dropped(tmp_path):
    with atomic.staged(tmp_path / "a", b"1") as file:
        assert file.temp.read_bytes() == b"1"
    assert contents(tmp_path) == {}


STAGE = """
import pathlib, sys
from une_jax.zoo import atomic
with atomic.staged(pathlib.Path(sys.argv[1]), b"1"):
    print("staged", flush=True)
    sys.stdin.read()
"""


def test_a_living_writers_file_stays_and_a_dead_ones_goes(tmp_path):
    command = [sys.executable, "-c", STAGE, tmp_path / "a"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "staged\n"
        with atomic.staged(tmp_path / "b", b"2"):
            mine = atomic.leftovers(tmp_path)
            atomic.remove_leftovers(tmp_path)
            assert atomic.leftovers(tmp_path) == mine and len(mine) == 2
        other.kill()
    assert len(atomic.leftovers(tmp_path)) == 1
    atomic.remove_leftovers(tmp_path)
    assert atomic.leftovers(tmp_path) == []


def test_a_file_removed_before_it_is_locked_is_begun_anew(tmp_path, monkeypatch):
    flock, meddling = fcntl.flock, [1]

    def late(descriptor, how):
        if meddling and meddling.pop():
            atomic.remove_leftovers(tmp_path)  # another process, at this very moment
            assert contents(tmp_path) == {}
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    atomic.write_bytes_atomically(tmp_path / "a", b"1")
    assert contents(tmp_path) == {"a": b"1"} and not meddling


def test_without_locks_files_are_written_but_no_leftovers_removed(
    tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".une-tmp-x").write_bytes(b"")
    with atomic.locked(tmp_path):
        atomic.write_bytes_atomically(tmp_path / "a", b"1")
        atomic.remove_leftovers(tmp_path)
    assert contents(tmp_path) == {"a": b"1", ".une-tmp-x": b""}


def test_only_our_own_leftovers_are_removed(tmp_path):
    (tmp_path / "mine").write_bytes(b"1")
    (tmp_path / ".une-tmp-link").symlink_to(tmp_path / "mine")
    (tmp_path / ".une-tmp-folder").mkdir()
    (tmp_path / ".une-tmp-x").write_bytes(b"")
    atomic.remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".une-tmp-folder",
        ".une-tmp-link",
        "mine",
    ]
    assert (tmp_path / "mine").read_bytes() == b"1"


def test_files_are_removed_and_their_folder_if_it_is_empty(tmp_path):
    folder = tmp_path / "a"
    atomic.remove_files(folder, ["x"])  # nothing there
    folder.mkdir()
    for name in "xyz":
        (folder / name).write_bytes(b"")
    atomic.remove_files(folder, ["x", "gone"])
    assert set(contents(folder)) == {"y", "z"}
    atomic.remove_files(folder, ["y", "z"])
    assert not folder.exists()
