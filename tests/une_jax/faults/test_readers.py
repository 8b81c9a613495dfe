"""Of each shard, an open dataset shows the version that it was opened with, or an error."""

import pickle

import little
import numpy as np
import pytest

from une_jax import zoo
from une_jax.errors import UneError

QUESTIONS = {
    "rows": lambda opened: opened.shard_rows(0).to_pylist(),
    "latents": lambda opened: opened["sd"][:].tolist(),
    "all latents": lambda opened: np.asarray(opened["clip"]).tolist(),
    "the tensor": lambda opened: opened.shard_tensor(0, "clip").tolist(),
}
BEFORE = {
    "the only record": ("create", "commit 0"),
    "one of two records": ("create", "commit 0", "commit 1"),
    "folded": ("create", "commit 0", "commit 1", "fold"),
    "a record beside folded ones": ("create", "commit 1", "fold", "commit 0"),
}
every_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
every_start = pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)


@every_start
@every_question
def test_what_was_written_anew_is_not_read(tmp_path, before, question):
    little.run(tmp_path, before)
    fresh, used = zoo.open(tmp_path), zoo.open(tmp_path)
    sent = pickle.dumps(used)
    for ask in QUESTIONS.values():
        ask(used)  # what a reader keeps must not make it blind
    # Another version of the same statuses: nothing but the numbers changes.
    little.run(tmp_path, ["replace 0 1", "replace 0 2"])
    for opened in (fresh, used, pickle.loads(sent)):
        with pytest.raises(UneError, match="shard 0 was written anew since"):
            question(opened)
    question(zoo.open(tmp_path))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_only_numbers_may_have_changed(tmp_path, version):
    little.run(tmp_path, ["create", f"commit 0 {version}"])
    opened = zoo.open(tmp_path)
    rows = opened.shard_rows(0)
    little.run(tmp_path, [f"replace 0 {version % 3 + 1}"])
    assert rows.equals(zoo.open(tmp_path).shard_rows(0))
    with pytest.raises(UneError, match="shard 0 was written anew since"):
        opened["clip"][:]


@every_start
@every_question
def test_what_others_write_beside_it_disturbs_nobody(tmp_path, before, question):
    little.run(tmp_path, before)
    opened = zoo.open(tmp_path)
    right = question(opened)
    for step in ("commit 2", "fold", "replace 2", "fold"):
        little.run(tmp_path, [step])
        assert question(opened) == right
    assert question(zoo.open(tmp_path)) is not None
