"""A progress bar on a terminal, one line a shard elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts images, or other units. ``with Progress(n, "inverting") as p: p.add(k)``.

    ``quiet`` is for work that somebody else reports.
    """

    def __init__(
        self, total: int, what: str, *, quiet: bool = False, unit: str = "img"
    ):
        self.total, self.what, self.quiet = total, what, quiet
        self.done, self.start = 0, time.monotonic()
        self.bar = tqdm(
            total=total,
            desc=what,
            unit=unit,
            dynamic_ncols=True,
            disable=quiet or not sys.stderr.isatty(),
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def expect(self, total: int) -> None:
        """It has turned out how many there are."""
        self.total = self.bar.total = total

    def add(self, n: int) -> None:
        """n more images are through."""
        self.done += n
        self.bar.update(n)

    def shard(self, note: str) -> None:
        """A shard is on disk: a log line where there is no bar."""
        if self.quiet:
            return
        if not self.bar.disable:
            self.bar.set_postfix_str(note)
            return
        seconds = time.monotonic() - self.start
        rate = self.done / max(seconds, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        print(
            f"{self.what}: {self.done}/{self.total} images, {rate:.1f} img/s, "
            f"{left:.0f} s left, {note}",
            file=sys.stderr,
            flush=True,
        )
