"""One's own ladder, as a file of rates and sizes, in place of the fixed ladder of a comparison."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from cluster.package.explain import parse_rate
from encoder.errors import BadInput
from encoder.media import Size
from ladder.baselines import FixedRung
from ladder.sizes import size_within

_MOST_RUNGS = 30


@dataclass(frozen=True, slots=True)
class OwnLadder:
    """Rungs of one's own ladder for a title, and what of it the title does not have."""

    name: str
    """Name of the file."""
    rungs: tuple[FixedRung, ...]
    """Rungs, lowest rate first."""
    left_out: tuple[str, ...]
    """Rows whose size is larger than the title's."""


def read_own_ladder(path: Path, width: int, height: int) -> OwnLadder:
    """Read a CSV file with a rate and a size in each row, such as ``800k,640x360`` or ``800k,360``.

    A first row of words is skipped. Lines alone stand for a 16:9 frame that the title has to fit
    into. Rows that would enlarge the title are left out.

    Args:
        path: The file.
        width: Display width of the title.
        height: Display height of the title.

    Raises:
        BadInput: the file cannot be read, a row is no rate and size, or no row fits the title.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"the ladder {path} cannot be read ({reason})") from error
    rungs, left_out = set[FixedRung](), list[str]()
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if not cells or cells[0].startswith("#"):
            continue
        rate = parse_rate(cells[0])
        size = _size(cells[1], width, height) if len(cells) > 1 else None
        if rate is None or size is None or len(cells) > 2:
            if number == 1 and not any(c.isdigit() for cell in cells for c in cell):
                continue
            raise BadInput(
                f"the ladder {path}, line {number}: {','.join(row)!r:.60} has to be a rate and a "
                "size, such as 800k,640x360 or 800k,360"
            )
        if size.width > width or size.height > height:
            left_out.append(",".join(cells))
        else:
            rungs.add(FixedRung(round(rate), size))
    if not rungs:
        raise BadInput(f"the ladder {path} has no rung that is no larger than {width}x{height}")
    if len(rungs) > _MOST_RUNGS:
        raise BadInput(f"the ladder {path} has {len(rungs)} rungs; give at most {_MOST_RUNGS}")
    ordered = sorted(rungs, key=lambda rung: (rung.rate, rung.size))
    return OwnLadder(path.name, tuple(ordered), tuple(left_out))


def _size(text: str, width: int, height: int) -> Size | None:
    """Return a size, even in both directions; None where the text is none."""
    if match := re.fullmatch(r"([1-9]\d{1,4})\s*[xX]\s*([1-9]\d{1,4})", text):
        return Size(int(match[1]) & ~1, int(match[2]) & ~1)
    if match := re.fullmatch(r"([1-9]\d{1,4})p?", text):
        size, scale = size_within(width, height, int(match[1]))
        return size if scale <= 1 else Size(width + 2, height + 2)
    return None
