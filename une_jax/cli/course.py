"""How far a piece of work of several unlike parts is, and how long it still takes."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"


class Course:
    """``with Course({"a": 20, "b": 5}) as course: course.begin("a"); course.tell(0.5)``.

    The parts' weights are the seconds that they take somewhere: what counts is how they
    compare. A bar on a terminal, one line a part elsewhere, of ``what`` is being made.
    """

    def __init__(self, weights: Mapping[str, int], *, what: str = "report"):
        self.weights, self.start, self.what = dict(weights), time.monotonic(), what
        self.before, self.part, self.ended = 0.0, "", 0.0
        self.bar = tqdm(
            total=sum(self.weights.values()),
            bar_format=BAR,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> "Course":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self.part:
            self.tell(1.0)
        self.bar.close()

    def begin(self, part: str) -> None:
        """The part before, if any, is done."""
        self.before += self.weights.get(self.part, 0)
        self.part = part
        self.bar.set_description_str(part, refresh=False)
        self.tell(0.0)
        if self.bar.disable:
            print(f"{self.what}: {part}{self._left()}", file=sys.stderr, flush=True)

    def tell(self, fraction: float) -> None:
        """So much of the part is done, from 0 to 1."""
        self.ended = self.before + self.weights[self.part] * fraction
        self.bar.n = self.ended
        self.bar.refresh()

    def _left(self) -> str:
        if not self.ended:
            return ""
        total = sum(self.weights.values())
        seconds = (time.monotonic() - self.start) / self.ended * (total - self.ended)
        return f" ({self.ended / total:.0%} done, about {seconds:.0f} s left)"
