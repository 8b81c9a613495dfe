"""Any sequence of writing, dying, resuming, retrying, folding, damaging and reading.

Hypothesis chooses the sequence; a dict of what must be there says what is right.
"""

import light
import little
import shim
from effort import effort
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from une_jax import zoo

INDEX = st.integers(0, little.manifest().shard_count - 1)
VERSION = st.integers(0, little.VERSIONS - 1)
POINT = st.none() | st.integers(0, 60)  # where it dies, if it does
Shards = dict[int, int]  # which version of which shard is committed


class Killed(BaseException):
    """The process ends here, and cleans nothing up."""


def dying(point: int | None) -> shim.Hook:
    """Dies at a point, and stays dead."""
    dead = False

    def die(call: shim.Call) -> None:
        nonlocal dead
        dead = True

    at = shim.at(-1 if point is None else point, die)

    def hook(call: shim.Call) -> None:
        at(call)
        if dead:
            raise Killed

    return hook


class Dataset(RuleBasedStateMachine):
    """A dataset on disk, and what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = light.scratch()
        self.path = little.Path(self.folder.name, "zoo")
        self.shards: Shards | None = None  # None: there may be none

    def take(self, step: str, point: int | None, *then: Shards) -> None:
        """Takes a step, after which the dataset is the last of `then`.

        If it dies at `point`, it may also be as it was, or any other of `then`.
        """
        may = [self.shards, *then]
        with shim.watched(dying(point)):
            try:
                little.run(self.path, [step])
                may = [then[-1]]
            except Killed:
                pass
        is_there = (self.path / "manifest.json").exists()
        now = little.versions(self.path) if is_there else None
        assert now in may, (step, point, now, may)
        self.shards = now

    @rule(point=POINT)
    def create(self, point):
        self.take("create", point, self.shards or {})

    @precondition(lambda self: self.shards is not None)
    @rule(index=INDEX, version=VERSION, point=POINT)
    def commit(self, index, version, point):
        step = f"commit {index} {version}"
        if index not in self.shards:
            self.take(step, point, {**self.shards, index: version})
            return
        try:
            self.take(step, point, self.shards)
            assert point is not None, "a committed shard was committed again"
        except zoo.AlreadyCommitted:
            assert little.versions(self.path) == self.shards

    @precondition(lambda self: self.shards is not None)
    @rule(index=INDEX, version=VERSION, point=POINT)
    def replace(self, index, version, point):
        others = {i: v for i, v in self.shards.items() if i != index}
        step = f"replace {index} {version}"
        self.take(step, point, others, {**others, index: version})

    @precondition(lambda self: self.shards is not None)
    @rule(point=POINT)
    def fold(self, point):
        self.take("fold", point, self.shards)
        if point is None:
            assert not list(self.path.glob("commits/*.json"))

    @precondition(lambda self: self.shards)
    @rule(choice=st.randoms(use_true_random=False))
    def damage(self, choice):
        """A bit flips in a file that counts, and is put right again."""
        parts = {f"{index:05d}" for index in self.shards} | {"manifest"}
        files = [
            file
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and file.stem in parts
        ]
        file = choice.choice(files)
        whole = file.read_bytes()
        place, bit = choice.randrange(len(whole)), choice.randrange(8)
        damaged = bytes([*whole[:place], whole[place] ^ 1 << bit, *whole[place + 1 :]])
        file.write_bytes(damaged)
        name = file.relative_to(self.path).as_posix()
        assert any(p.startswith(f"{name}: ") for p in zoo.verify(self.path))
        file.write_bytes(whole)

    @invariant()
    def pending_is_what_is_not_committed(self):
        if self.shards is not None:
            pending = set(range(3)) - set(self.shards)
            assert zoo.Writer(self.path).pending() == sorted(pending)

    @invariant()
    def verify_finds_no_more_than_what_is_unfinished(self):
        if self.shards is not None:
            rests = ("unfinished", "left by a killed build", "not committed")
            for problem in zoo.verify(self.path):
                assert any(rest in problem for rest in rests), problem

    def teardown(self):
        """In the end all is finished, and the way there has left no trace."""
        with self.folder, light.scratch() as other:
            whole = little.Path(other, "zoo")
            final = {i: 0 for i in range(3)} | (self.shards or {})
            for path in (self.path, whole):
                writer = zoo.create(path, little.manifest())
                for index in writer.pending():
                    little.commit(writer, index, final[index])
                writer.fold()
            assert zoo.verify(self.path) == []
            assert little.tree(self.path) == little.tree(whole)


TestDataset = Dataset.TestCase
TestDataset.settings = settings(
    max_examples=effort(10, 1000), stateful_step_count=effort(15, 40)
)
