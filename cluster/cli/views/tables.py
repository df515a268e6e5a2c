"""Tables as data: a column is a heading and how its text follows from a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich import box
from rich.console import RenderableType
from rich.table import Table

_R = TypeVar("_R")

ABSENT = "-"
"""Text of a cell that has no value."""


@dataclass(frozen=True, slots=True)
class Column(Generic[_R]):
    """A column of a table whose rows are all of one type."""

    heading: str
    cell: Callable[[_R], object]
    """Function that returns the value of the cell in a row; None and NaN are drawn as ``-``."""
    form: str = ""
    """Format specification of the value, such as ``.2f``."""
    unit: str = ""
    """Text after the formatted value, such as `` %``."""
    left: bool = False
    """True for text, which is aligned left; numbers are aligned right."""
    fold: bool = False
    """True where long text goes on in the next line; otherwise it is cut."""
    shown: bool = True
    """False leaves the column out of the table."""
    total: Callable[[Any], object] | None = None
    """Function that returns the value of the cell in the table's last row; None leaves it empty."""


def table(columns: Sequence[Column[_R]], rows: Iterable[_R], totals: object = None) -> Table:
    """Draw rows as a plain table; a row for ``totals``, if any, stands under a line at the end."""
    shown = [column for column in columns if column.shown]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for column in shown:
        drawn.add_column(
            column.heading,
            justify="left" if column.left else "right",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
        )
    for row in rows:
        drawn.add_row(*(_text(column, column.cell(row)) for column in shown))
    if totals is not None:
        drawn.add_section()
        drawn.add_row(
            *(_text(column, column.total(totals)) if column.total else "" for column in shown)
        )
    return drawn


def _text(column: Column[Any], value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ABSENT
    return value if isinstance(value, str) else f"{value:{column.form}}{column.unit}"


def facts(rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Draw rows of names and texts without a heading; only the last column may wrap."""
    listed = list(rows)
    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(max(map(len, listed), default=1) - 1):
        drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")  # a path must be there to its end
    for row in listed:
        drawn.add_row(*row)
    return drawn


# -- numbers for people ------------------------------------------------------------------------


def kbits(bitrate: float) -> str:
    """Format bit/s as kbit/s, with three digits at least."""
    return f"{bitrate / 1000:.0f}" if bitrate >= 100_000 else f"{bitrate / 1000:.1f}"


def clock(seconds: float) -> str:
    """Format a time in a title as minutes, seconds and milliseconds."""
    return f"{int(seconds // 60)}:{seconds % 60:06.3f}"


def size(num_bytes: float) -> str:
    """Format a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def percent(share: float | None) -> float | None:
    """Return a share in percent; None stays None."""
    return None if share is None else 100 * share
