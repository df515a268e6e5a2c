"""Units: pieces of work of one title that travel together, as one task.

A 2-hour title has thousands of shots and tens of thousands of encodes; a scheduler wants hundreds
of tasks of about a minute. Every encode and score of a unit is still kept on its own as soon as it
is there, and one that fails takes no other along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.execution.tasks import portable
from cluster.stages.encodes import ShotWork, WorkDone, encode_and_score
from cluster.stages.pieces import StoredPiece, fetched
from cluster.stages.title_record import described
from cluster.store import open_store
from encoder.errors import StoreUnusable
from encoder.media import OperatingPoint, Shot

UNIT_CPU_SECONDS = 90.0
"""What a unit is about, on a title that is long enough."""
UNITS_PER_SLOT = 32
"""At least so many for every core, so that all end at about the same time: at the end of a round
all but one core may wait for a unit, half of one on average."""
MAX_UNITS = 1000
"""Of one round of one title."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Shots of one title that are encoded and measured one after the other."""

    store: str
    """Where the store is."""
    title: str
    """Key of what the title is, see :mod:`cluster.stages.title_record`."""
    source: str
    """Where its source is, for workers that see it."""
    models: tuple[str, ...]
    works: tuple[tuple[Shot, tuple[OperatingPoint, ...]], ...]
    piece: StoredPiece | None = None
    """That holds these shots, for workers that do not see the source."""

    @property
    def label(self) -> str:
        """What it is, for people."""
        first, last = self.works[0][0], self.works[-1][0]
        heights = {point.height for _, points in self.works for point in points}
        sizes = f" at {heights.pop()}p" if len(heights) == 1 else ""
        return f"frames {first.start} to {last.end}{sizes}"


Result = WorkDone | Exception
"""Of a piece of work."""


def perform_unit(unit: Unit) -> tuple[Result, ...]:
    """Make what is missing of each piece of work: what it took, or why it failed.

    Idempotent; runs on any worker that sees the store. A unit of one piece raises instead, so that
    executors see its failure.

    Raises:
        ToolFailed, FrameMismatch, StoreUnusable: as the stages do.
    """
    title = described(unit.store, unit.title, unit.source)
    if unit.piece is not None:
        title = fetched(title, unit.piece, open_store(unit.store))
    works = [ShotWork(title, shot, points, unit.models, unit.store) for shot, points in unit.works]
    if len(works) == 1:
        return (encode_and_score(works[0]),)
    results: list[Result] = []
    for work in works:
        try:
            results.append(encode_and_score(work))
        except StoreUnusable as error:
            # A full disk is full for the rest of them too.
            results += [portable(error)] * (len(works) - len(results))
            break
        except Exception as error:
            results.append(portable(error))
    return tuple(results)


def collated(works: Sequence[ShotWork], slots: int, lies: Sequence[int]) -> Iterator[list[int]]:
    """Positions in ``works`` that make a unit: neighbours, about equal in cost.

    ``lies`` says of each in which piece of the source it lies; a unit is of one piece.
    """
    total = sum(work.cost for work in works)
    wanted = max(
        1, min(MAX_UNITS, max(UNITS_PER_SLOT * slots, math.ceil(total / UNIT_CPU_SECONDS)))
    )
    share = total / wanted
    unit: list[int] = []
    cost = 0.0
    for position, work in enumerate(works):
        if unit and (cost + work.cost / 2 > share or lies[unit[-1]] != lies[position]):
            yield unit
            unit, cost = [], 0.0
        unit.append(position)
        cost += work.cost
    if unit:
        yield unit
