"""What one open page is about: which picture, which sliders, which rows to pick from."""

import dataclasses
from typing import Any

PER_PAGE = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """Kept by the server for each open page; a browser cannot write into it.

    Attributes:
        picture: ("row", 7), ("upload", name), or None.
        sliders: the attribute of each slider that is there.
        active: the one whose slider was moved last: the strip is of that.
        page: which ``PER_PAGE`` rows the gallery shows.
    """

    picture: tuple[str, Any] | None = None
    sliders: tuple[str, ...] = ()
    active: str | None = None
    page: int = 0

    def but(self, **changes: Any) -> "Session":
        """The same with some fields changed.

        >>> Session(page=1).but(active="Smiling").page
        1
        """
        return dataclasses.replace(self, **changes)

    def rows(self, count: int) -> range:
        """The rows that the gallery shows, of ``count`` in all.

        >>> Session(page=1).rows(30)
        range(24, 30)
        """
        start = self.page * PER_PAGE
        return range(min(start, count), min(start + PER_PAGE, count))

    def turned(self, by: int, count: int) -> "Session":
        """Some pages on or back, going round at the ends.

        >>> Session(page=1).turned(1, 30).page
        0
        """
        pages = max(1, -(-count // PER_PAGE))
        return self.but(page=(self.page + by) % pages)

    def at(self, row: int) -> "Session":
        """With a row picked, on the gallery's page that has it."""
        return self.but(picture=("row", row), page=row // PER_PAGE)

    @property
    def row(self) -> int | None:
        """The row that is picked, where it is one."""
        return self.picture[1] if self.picture and self.picture[0] == "row" else None
