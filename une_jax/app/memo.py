"""What was computed lately, so that it need not be again; and no more of it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """The last ``most`` results by key. Not for several threads at once.

    >>> memo = Memo(most=1)
    >>> memo.get("a", lambda: 1), memo.get("a", lambda: 2), memo.get("b", lambda: 3)
    (1, 1, 3)
    >>> memo.get("a", lambda: 4)
    4
    """

    def __init__(self, most: int):
        self.most, self._kept = most, OrderedDict[Hashable, T]()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept of ``key``, else what ``make`` gives, which is then kept."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept
