"""The times of ``--split-at``, from the command line and from a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from encoder.errors import BadInput

COLUMNS = ("time", "duration", "id")
"""Columns of a file, the first of which every row needs."""
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


_CUE = re.compile(r"(?:([A-Za-z0-9._-]{1,64})@)?(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?")


def cues_from_text(text: str) -> tuple[tuple[float, float, str], ...]:
    """Return time, duration and id of each part of a list such as ``600,mid-2@1200.5+30``; nothing
    where the text is no such list.
    """
    found = [_CUE.fullmatch(part.strip()) for part in text.split(",")]
    return (
        tuple((float(one[2]), float(one[3] or 0), one[1] or "") for one in found if one is not None)
        if all(found)
        else ()
    )


def cues_from_csv(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Return time, duration and id of each row of a CSV file.

    Times and durations are in seconds or as ``1:02:03.5``. The first row may name the columns;
    without it they are those of :data:`COLUMNS`, in this order. Empty durations are 0.

    Raises:
        BadInput: there is no such file, or a row cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInput(
            f"--split-at takes seconds such as 600,1200.5 or a CSV file; {str(path)!r:.200} "
            f"cannot be read ({why})"
        ) from error
    rows = tuple(_rows(path, [row for row in csv.reader(text.splitlines()) if any(row)]))
    if not rows:
        raise BadInput(f"{path} has no times; give one in each row")
    return rows


def _rows(path: Path, rows: Sequence[Sequence[str]]) -> Iterator[tuple[float, float, str]]:
    columns: Sequence[str] = COLUMNS
    first = 1
    if rows and _seconds(rows[0][0]) is None:
        columns = [name.strip().lower() for name in rows[0]]
        if "time" not in columns or set(columns) - set(COLUMNS):
            raise BadInput(
                f"{path}: the columns are {', '.join(columns)}; give `time`, and if you like "
                "`duration` and `id`"
            )
        rows, first = rows[1:], 2
    for number, row in enumerate(rows, first):
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=False))
        time, duration = _seconds(cells["time"]), _seconds(cells.get("duration") or "0")
        if time is None or duration is None or len(row) > len(columns):
            raise BadInput(
                f"{path}, row {number}: {','.join(row)!r:.80}; give a time in seconds or as "
                f"1:02:03.5, {', '.join(columns[1:]) or 'nothing'} after it"
            )
        yield time, duration, cells.get("id", "")


def _seconds(text: str) -> float | None:
    """Return a time in seconds, written as a number or as a clock has it; None for other text."""
    if clock := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None
