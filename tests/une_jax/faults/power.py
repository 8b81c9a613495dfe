"""Power cuts: what a disk may hold if all that was not synced can be lost.

After a SIGKILL the kernel still has every byte; after a power cut it has not. `Disk`
watches a folder and knows, for each file and each folder, what was last synced. From
that it makes the folders that one may find after a cut: a file that was not synced has
lost its bytes, a folder that was not synced still has its old names, in any mixture
(POSIX promises no more). Runs in a light process.
"""

import dataclasses
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kills
import light
import shim

Tree = dict[str, bytes | None]


@dataclasses.dataclass(eq=False)
class Node:
    """A file (bytes) or a folder (names), as it is and as it was last synced."""

    now: Any
    synced: Any


class Disk:
    """Watches the folder `root` through the calls that change it; use it as a hook."""

    def __init__(
        self, root: Path, cut: Callable[[Iterator[Tree]], object], mixtures: int
    ) -> None:
        self._nodes: dict[int, Node] = {}
        self._last: shim.Call | None = None
        self._root, self._cut, self._mixtures = root, cut, mixtures
        self.unseen: list[str] = []
        self._look(root)
        for node in self._nodes.values():
            node.synced = node.now
        self._tree_before = self._named()

    def __call__(self, call: shim.Call | None) -> None:
        """The call is about to be made, and so the one before it is over."""
        self._look(self._root)
        last = self._last
        self._account(last)
        if last is not None and last.name == "fsync" and os.path.exists(last.path):
            node = self._nodes[os.stat(last.path).st_ino]
            node.synced = node.now
        self._last = call
        self._cut(self.after_cut())

    def _account(self, last: shim.Call | None) -> None:
        """Notes what has changed, but not by the last call: the shim has a hole."""
        tree, before = self._named(), self._tree_before
        changed = {p for p in {*tree, *before} if not _same(p, tree, before)}
        path = os.path.abspath(last.path) if last else None
        spare = int(last is not None and last.name in shim.MOVES)  # two names
        if len(changed - {path}) > spare:
            self.unseen.append(f"{last} changed {sorted(changed)}")
        self._tree_before = tree

    def _named(self) -> Tree:
        tree = self._tree(_yes, _yes)
        return {str(self._root / name): data for name, data in tree.items()}

    def after_cut(self) -> Iterator[Tree]:
        """What may be there if the power went now."""
        for names, data in itertools.product((False, True), repeat=2):
            yield self._tree(lambda _, n=names: n, lambda _, d=data: d)
        for seed in range(self._mixtures):
            chance = random.Random(seed)
            yield self._tree(
                lambda _, c=chance: c.random() < 0.5,
                lambda _, c=chance: c.random() < 0.5,
            )

    def _look(self, path: Path) -> Node:
        alive: dict[int, Node] = {}
        node = self._see(path, alive)
        self._nodes = alive  # an inode that is gone may come back as another file
        return node

    def _see(self, path: Path, alive: dict[int, Node]) -> Node:
        inode = path.stat().st_ino
        folder = path.is_dir()
        node = self._nodes.get(inode) or Node(None, {} if folder else b"")
        alive[inode] = node
        if folder:
            node.now = {p.name: self._see(p, alive) for p in sorted(path.iterdir())}
        else:
            node.now = path.read_bytes()
        return node

    def _tree(
        self, new_name: Callable[[str], bool], new_bytes: Callable[[str], bool]
    ) -> Tree:
        """A folder in which each name and each file is the new or the synced one."""
        tree: Tree = {}

        def visit(node: Node, below: str) -> None:
            for name in sorted({*node.now, *node.synced}):
                entries = node.now if new_name(name) else node.synced
                child = entries.get(name)
                if child is None:
                    continue
                path = f"{below}{name}"
                if isinstance(child.now, dict):
                    tree[path] = None
                    visit(child, f"{path}/")
                else:
                    tree[path] = child.now if new_bytes(path) else child.synced

        visit(self._nodes[self._root.stat().st_ino], "")
        return tree


def _yes(_: str) -> bool:
    return True


def _same(path: str, a: Tree, b: Tree) -> bool:
    return path in a and path in b and a[path] == b[path]


def every_cut(name: str, mixtures: int) -> dict[str, Any]:
    """Cuts the power at each point, looks at each thing one may then find, resumes."""
    found: dict[tuple, Tree] = {}
    done: list[str] = []

    def cut(trees: Iterator[Tree]) -> None:
        for tree in trees:
            found[(tuple(done), *sorted(tree.items(), key=str))] = tree

    wrong = []
    with light.scratch() as folder:
        bench = kills.Bench(name, Path(folder))
        path = bench.start()
        root = path.parents[1]
        disk = Disk(root, cut, mixtures)
        with shim.watched(disk):
            bench.run(path, done.append)
            disk(None)
        for key, tree in found.items():
            path = bench.empty()
            lay(path.parents[1], tree)
            wrong += bench.after(path, key[0], f"found {sorted(tree)}")
    return {"points": len(found), "wrong": wrong, "unseen": disk.unseen}


def lay(folder: Path, tree: Tree) -> None:
    """Makes the files and folders of `tree`."""
    for name, data in tree.items():
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)
