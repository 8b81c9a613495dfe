"""The command line itself: help, exit codes, JSON, and what it does not import."""

import json
import math
import os
import subprocess
import sys

import jax
import pytest
from small_zoo import build, contents

from une_jax import zoo
from une_jax.cli.main import COMMANDS, spoken, to_json
from une_jax.cli.options import join_repeated

ANALYSIS = "--view --csv --figure --json"
OPTIONS = {
    "align": f"{ANALYSIS} --limit --folds --decode --generator",
    "gaussianity": f"{ANALYSIS} --projections --rows --seed",
    "gcca": f"{ANALYSIS} --k --rho --components --hybrid --permutations --limit",
    "leakage": f"{ANALYSIS} --sweep --generator --steps --limit --components",
    "recovery": f"{ANALYSIS} --truth",
    "similarity": f"{ANALYSIS} --rows --permutations --neighbours --seed --heatmap",
    "demo": "--out --quick --n --steps --json",
    "faces": "--out --n --seed --json",
    "build": (
        "--images --attributes --generator --encoder --steps --out --size --eval-at "
        "--limit --batch-size --dtype --retry --dry-run --prompt --controls --json"
    ),
    "verify": "--json",
    "probe": "--view --components --l2 --csv --json",
    "edit": (
        "--generator --zoo --directions --image --attribute --keep --how --method "
        "--strength --unit --norm --out --view --prompt --json"
    ),
    "interpolate": "--zoo --image --to --places --out --generator --view --json",
    "translate": "--images --from --to --out --prompt-from --prompt-to --guidance-from "
    "--guidance-to --skip --code --eta --steps --seed --size --dtype --batch-size --limit "
    "--json",
    "directions": "--out --view --attribute --caption --base --encoder --keep --how "
    "--method --json",
    "report": "--out --images --generator --view --attribute --prompt --truth --judge "
    "--hspace --only --without --rows --json",
    "effects": f"{ANALYSIS} --attribute --how --method --judge --images --step --change "
    "--norm --truth --lpips --generator --batch-size --seed",
    "stitch": "--out --synthetic --images --synthetic-images --truth --source --target "
    "--generator --kind --rank --paper --maps --probes --tests --pictures --attribute "
    "--judge --features --inception --lpips --json",
    "synthesize": "--generator --out --n --seed --steps --json",
    "hspace": "fit local edit curves",
    "hspace fit": "--out --method --attribute --keep --balance --components --limit --view "
    "--generator --json",
    "hspace local": "--out --row --t --components --region --tolerance --iterations --view "
    "--generator --json",
    "hspace edit": "--directions --image --out --attribute --strength --unit --process "
    "--t-edit --t-boost --generator --prompt --json",
    "hspace curves": "--out --csv --images --distance --lpips --strength-threshold "
    "--deficiency-threshold --source --target --judge --cosine --view --generator --json",
    "app": "--images --generator --view --judge --hspace --port --open --json",
    "import": "--out --keys --images --partition --attributes --hash-images --shape "
    "--shard-rows --json",
    "export": "--to --out --view --split --json",
}


def python(*args, **environment):
    """A fresh interpreter that counts one device."""
    env = {**os.environ, "XLA_FLAGS": "", **environment}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.mark.parametrize("command", [" ".join(words) for words in spoken()])
def test_help_names_every_option_and_no_python(run, command):
    ran = run(*command.split(), "--help")
    assert ran.code == 0 and ran.err == ""
    for option in OPTIONS[command].split():
        assert f"{option} " in ran.out
    for noise in ("None", "MISSING", "(default: )", "--no-"):
        assert noise not in ran.out


def test_help_lists_the_commands(run):
    ran = run("--help")
    assert ran.code == 0
    assert all(f"• {command} " in ran.out for command in COMMANDS)


def test_help_imports_no_models_and_no_framework():
    code = (
        "import sys; from une_jax.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'flax', 'matplotlib', 'huggingface_hub'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    ran = python("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "heavy: []"


def test_python_m_une_jax_prints_results_on_stdout_and_talk_on_stderr(tmp_path):
    build(tmp_path / "zoo")
    before = contents(tmp_path / "zoo")
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_COMPILATION_CACHE_DIR": ""}
    ran = python("-m", "une_jax", "verify", tmp_path / "zoo", "--json", **cache)
    assert ran.returncode == 0, ran.stderr
    sound = {"zoo": str(tmp_path / "zoo"), "problems": [], "exit_code": 0}
    assert json.loads(ran.stdout) == sound
    assert ran.stderr == ""
    assert contents(tmp_path / "zoo") == before


def test_verify_names_what_is_wrong_and_exits_with_1(run, tmp_path):
    folder = build(tmp_path / "zoo")
    assert run("verify", folder).out == f"{folder}: sound\n"
    file = folder / "shards/00001.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    ran = run("verify", folder)
    assert ran.code == 1
    assert ran.out.startswith(f"{folder}: shards/00001.safetensors: damaged")
    assert run("verify", folder, "--json").json["problems"] == zoo.verify(folder)


def test_a_zoo_that_others_made_cannot_be_decoded(run, faces, tmp_path):
    """Its view does not say how an image became noise."""
    folder = build(tmp_path / "zoo")
    image = faces / "img_align_celeba/000001.jpg"
    edit = ("edit", "--zoo", folder, "--image", image, "--attribute", "Male")
    ran = run(*edit, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "view 'mini-sd' does not say its eval_at, dtype, size" in ran.errors[0]


def test_json_is_strict():
    value = {"a": [1.5, math.nan, (math.inf, "x")], "b": None, "c": True}
    wanted = {"a": [1.5, None, [None, "x"]], "b": None, "c": True}
    assert json.loads(to_json(value)) == wanted


def test_repeated_options_add_up_and_others_stay_where_they_are():
    args = "edit --keep Male --strength -3 0 --keep=Young Chubby --out o".split()
    wanted = "edit --keep Male Young Chubby --strength -3 0 --out o".split()
    assert join_repeated(args) == wanted
    assert join_repeated(["probe", "zoo"]) == ["probe", "zoo"]
    assert join_repeated([]) == []


def test_maths_is_float32_and_compiled_programs_are_kept(tmp_path, monkeypatch):
    from une_jax.cli.devices import configure_jax

    names = ("jax_default_matmul_precision", "jax_compilation_cache_dir")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        configure_jax()
        assert jax.config.jax_default_matmul_precision == "float32"
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "une_jax/xla")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
