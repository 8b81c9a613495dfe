"""Many workers, one zoo: whoever does a shard, and however many they are."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from small_zoo import contents

from une_jax import zoo
from une_jax.cli.cluster import Cluster
from une_jax.errors import UneError


def test_workers_of_any_number_make_the_zoo_that_one_makes(
    run, build_args, built, tmp_path
):
    out = ("--out", tmp_path / "zoo")
    ran = run(*build_args, *out, "--worker", "1/3")
    assert ran.code == 0 and "8 rows ok, 0 failed, 16 still to come" in ran.out
    assert [s.index for s in zoo.open(tmp_path / "zoo").manifest.shards] == [1]
    ran = run(*build_args, *out, "--worker", "0/2")  # the count may change
    assert "16 rows ok, 0 failed, 8 still to come" not in ran.err
    assert [s.index for s in zoo.open(tmp_path / "zoo").manifest.shards] == [0, 1, 2]
    assert (tmp_path / "zoo/commits").exists()  # a worker among others folds nothing
    assert zoo.verify(tmp_path / "zoo") == []
    assert run(*build_args, *out).code == 0
    assert contents(tmp_path / "zoo") == contents(built)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(args, environments):
    """Runs ``une-jax ARGS`` in as many processes as there are environments."""
    ran = []
    for extra, environment in environments:
        command = [sys.executable, "-m", "une_jax", *map(str, args), *map(str, extra)]
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        ran.append(
            subprocess.Popen(
                command,
                env={**os.environ, "JAX_PLATFORMS": "cpu", **flags, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=300) for process in ran]
    finally:
        for process in ran:
            process.kill()
    for process, (_, err) in zip(ran, said, strict=True):
        assert process.returncode == 0, err
    return said


@pytest.mark.parametrize("how", ["told", "SLURM"])
def test_processes_that_jax_joins_share_the_shards(
    how, build_args, built, tmp_path, request
):
    """Two processes of two devices each; on SLURM nobody tells them anything."""
    port = free_port()
    told = [
        ("--coordinator", f"127.0.0.1:{port}", "--processes", 2, "--process", i)
        for i in range(2)
    ]
    slurm = [
        {
            "SLURM_JOB_ID": str(port),
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(i),
            "SLURM_LOCALID": "0",  # each has a machine of its own
            "SLURM_STEP_NUM_NODES": "2",
        }
        for i in range(2)
    ]
    both = [(t, {}) for t in told] if how == "told" else [((), e) for e in slurm]
    args = [*build_args, "--out", tmp_path / "zoo", "--engine", "distributed"]
    said = together(args, both)
    for out, err in said:
        assert "24 rows ok, 0 failed" in out
        assert "une-jax: 2 x cpu" in err  # its own devices, not the others'
    shards = [
        {line.split("shard ")[1].split()[0] for line in err.splitlines() if "written" in line}
        for _, err in said
    ]  # fmt: skip
    assert sorted(map(sorted, shards)) == [["0", "2"], ["1"]]
    opened, whole = zoo.open(tmp_path / "zoo"), zoo.open(built)
    assert zoo.verify(tmp_path / "zoo") == []
    assert not (tmp_path / "zoo/commits").exists()
    assert opened.keys == whole.keys
    for view in whole.views:
        np.testing.assert_allclose(opened[view][:], whole[view][:], atol=2e-5)


@pytest.mark.parametrize("share", ["3", "3/", "/3", "3/3", "-1/3", "a/b", "1/2/3"])
def test_a_worker_is_one_of_some(share):
    with pytest.raises(UneError, match="--worker .*: write I/N"):
        Cluster(worker=share).check()


def test_options_of_one_engine_are_not_for_another(run, build_args, tmp_path):
    for options, message in (
        (("--worker", "0/2", "--engine", "ray"), "--worker is for --engine local"),
        (("--processes", 2), "go together"),
        (("--engine", "distributed", "--process", 0), "go together"),
    ):
        ran = run(*build_args, "--out", tmp_path / "zoo", *options)
        assert ran.code == 1 and message in ran.errors[0], ran.err
    assert not (tmp_path / "zoo").exists()
