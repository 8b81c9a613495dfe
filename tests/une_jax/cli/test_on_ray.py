"""A build on a local Ray of two workers, one of which is killed on the way."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_zoo import contents

from une_jax import zoo
from une_jax.cli.cluster import Cluster
from une_jax.cli.on_ray import room

KILLED = """
import os, pathlib, signal, sys, threading, time
from une_jax.cli import on_ray
from une_jax.cli.build import Build
from une_jax.cli.cluster import Cluster


class Slowly:
    '''An encoder that takes a second a batch.'''

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.__dict__["model"], name)

    def compute(self, *args):
        time.sleep(1)
        return self.model.compute(*args)


class Slow(Build):
    def prepare(self):
        job = super().prepare()
        return job._replace(models=[Slowly(model) for model in job.models])


def workers():
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().startswith(b"ray::ShardWorker.shard"):
                found.append(int(file.parent.name))
        except OSError:
            pass
    return found


def kill():
    while not list(pathlib.Path(sys.argv[3]).glob("commits/*.json")):
        time.sleep(0.02)
    while not (busy := workers()):
        time.sleep(0.02)
    os.kill(busy[0], signal.SIGKILL)
    print("killed", file=sys.stderr, flush=True)


if __name__ == "__main__":
    build = Slow(
        images=pathlib.Path(sys.argv[1]),
        encoder=(sys.argv[2],),
        out=pathlib.Path(sys.argv[3]),
        shard_rows=2,
        batch_size=2,
        cluster=Cluster(engine="ray", ray_workers=2),
    )
    if sys.argv[4:] == ["kill"]:
        threading.Thread(target=kill, daemon=True).start()
    print(build.text(build.run()))
"""


@pytest.fixture
def build(faces, eyes, tmp_path):
    """Runs the script above on the tiny encoder; gives what it said."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)

    def run(out: Path, *how: str) -> subprocess.CompletedProcess:
        images = faces / "img_align_celeba"
        return subprocess.run(
            [sys.executable, script, images, eyes, out, *how],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_a_killed_workers_shard_goes_to_another(build, run, faces, eyes, tmp_path):
    ran = build(tmp_path / "zoo", "kill")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{tmp_path / 'zoo'}: 24 rows ok, 0 failed\n"
    assert ran.stderr.count("killed\n") == 1
    died = [line for line in ran.stderr.splitlines() if "a worker died" in line]
    assert len(died) == 1 and "another takes over" in died[0]
    assert ran.stderr.count(" written: decode") == 12
    assert zoo.verify(tmp_path / "zoo") == []
    assert not (tmp_path / "zoo/commits").exists()
    # What the workers made is what one process makes.
    args = ("--images", faces / "img_align_celeba", "--encoder", eyes)
    small = ("--shard-rows", 2, "--batch-size", 2)
    command = [sys.executable, "-m", "une_jax", "build", *args, *small]
    alone = tmp_path / "alone"
    subprocess.run([*map(str, command), "--out", alone], check=True, timeout=300)
    assert contents(alone) == contents(tmp_path / "zoo")


def test_what_a_worker_complains_of_is_the_commands_error(run, eyes, tmp_path):
    (tmp_path / "empty").mkdir()
    args = (
        "--images",
        tmp_path / "empty",
        "--encoder",
        eyes,
        "--out",
        tmp_path / "zoo",
    )
    command = [sys.executable, "-m", "une_jax", "build", *args, "--engine", "ray"]
    ran = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("une-jax: error: a worker refused: no images in")


def test_a_cluster_has_room_for_as_many_workers_as_its_scarcest_resource():
    asked = Cluster(ray_cpus=4.0, ray_gpus=1.0)
    assert room({"CPU": 64.0, "GPU": 8.0, "memory": 1e9}, asked) == 8
    assert room({"CPU": 8.0, "GPU": 8.0}, asked) == 2
    assert room({"CPU": 2.0}, asked) == 1  # it may yet grow
    assert room({"CPU": 8.0, "TPU": 8.0}, Cluster(ray_tpus=4.0)) == 2
