"""Units: shots of one title that are encoded and scored together, as one task.

A 2-hour title has thousands of shots and tens of thousands of encodes, but a scheduler is at its
best with hundreds of tasks of about a minute. Every encode and score of a unit is still stored as
soon as it is made, and a failure of one shot leaves the other shots of the unit alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.execution.tasks import portable
from cluster.stages.encodes import Costs, ShotWork, encode_and_score
from cluster.stages.pieces import StoredPiece, read_from_piece
from cluster.stages.title_record import load_title
from cluster.store import open_store
from encoder.errors import StoreUnusable
from encoder.media import OperatingPoint, Shot
from encoder.source.stamp import Stamp

UNIT_CPU_SECONDS = 90.0
"""Target cost of a unit in CPU seconds, where the title is long enough."""
UNITS_PER_SLOT = 32
"""Minimum number of units per core and round. At the end of a round all cores but one may wait
for the last unit, half a unit on average; with many units that is little."""
MAX_UNITS = 1000
"""Maximum number of units in one round of a title."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Shots of one title that one task encodes and scores one after the other."""

    store: str
    """Folder or URL of the store."""
    title: str
    """Key of the title's description, see :mod:`cluster.stages.title_record`."""
    source: str
    """Path of the source, for workers that see it."""
    models: tuple[str, ...]
    works: tuple[tuple[Shot, tuple[OperatingPoint, ...]], ...]
    piece: StoredPiece | None = None
    """Piece of the source that contains these shots, for workers that do not see the source."""
    stamp: Stamp | None = None
    """Stamp of the source when its digest was taken."""
    watched: str = ""
    """Path of the file that must not change meanwhile, see
    :class:`cluster.stages.title.TitleSource`."""

    @property
    def label(self) -> str:
        """Frames and heights of the unit, as errors and progress name it."""
        first, last = self.works[0][0], self.works[-1][0]
        heights = sorted({point.height for _, points in self.works for point in points})
        sizes = ", ".join(f"{height}p" for height in heights)
        return f"frames {first.start} to {last.end} at {sizes}"


WorkResult = Costs | Exception
"""What a piece of work cost, or why it failed."""


def perform_unit(unit: Unit) -> tuple[WorkResult, ...]:
    """Encode and score what the store lacks; return one result per piece of work of the unit.

    Idempotent; runs on any worker that sees the store. A unit of a single piece of work raises
    its error instead, so that the executor sees the failure.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: the only piece of work failed.
    """
    title = load_title(unit.store, unit.title, unit.source)
    title = replace(title, stamp=unit.stamp, watched=unit.watched)
    if unit.piece is not None:
        title = read_from_piece(title, unit.piece, open_store(unit.store))
    works = [ShotWork(title, shot, points, unit.models, unit.store) for shot, points in unit.works]
    if len(works) == 1:
        return (encode_and_score(works[0]),)
    results: list[WorkResult] = []
    for work in works:
        try:
            results.append(encode_and_score(work))
        except StoreUnusable as error:
            # A disk that is full for one of them is full for the rest too.
            results += [portable(error)] * (len(works) - len(results))
            break
        except Exception as error:
            results.append(portable(error))
    return tuple(results)


def batches(works: Sequence[ShotWork], slots: int, piece_of: Sequence[int]) -> Iterator[list[int]]:
    """Yield the positions in ``works`` that form a unit: neighbours, of about equal total cost.

    Args:
        works: All work of a round.
        slots: Number of units that run at the same time.
        piece_of: Index of the source piece that contains each item. A unit never spans pieces.
    """
    total = sum(work.cost for work in works)
    units = max(1, min(MAX_UNITS, max(UNITS_PER_SLOT * slots, math.ceil(total / UNIT_CPU_SECONDS))))
    share = total / units
    unit: list[int] = []
    cost = 0.0
    for position, work in enumerate(works):
        if unit and (cost + work.cost / 2 > share or piece_of[unit[-1]] != piece_of[position]):
            yield unit
            unit, cost = [], 0.0
        unit.append(position)
        cost += work.cost
    if unit:
        yield unit
