"""How the summary of several sources looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.drawing import duration
from cluster.cli.output import Line
from cluster.cli.views.tables import Column, kbits, size, table
from cluster.jobs.several import SourceOutcome
from ladder.document import Ladder


def several_view(outcomes: Sequence[SourceOutcome]) -> list[RenderableType]:
    """Show what became of each source, and where its package is."""
    columns: list[Column[SourceOutcome]] = [
        Column("source", lambda one: one.source.name, left=True),
        Column("package", lambda one: one.outcome, left=True),
        Column("length", lambda one: _of(one, _length), left=True),
        Column("rungs", lambda one: _of(one, lambda ladder: len(ladder.rungs))),
        Column("top kbit/s", lambda one: _of(one, lambda ladder: kbits(_top(ladder)))),
        Column("quality", lambda one: _of(one, _quality), ".1f"),
        Column("size", lambda one: _of(one, lambda ladder: size(_bytes(ladder))),
               total=lambda _: size(sum(_bytes(one.package.ladder) for one in outcomes
                                        if one.package))),
        Column("took", lambda one: duration(one.seconds) if one.seconds else None,
               total=lambda _: duration(sum(one.seconds for one in outcomes))),
    ]  # fmt: skip
    parts: list[RenderableType] = [table(columns, outcomes, outcomes)]
    for one in outcomes:
        said = f"failed: {one.error.message}" if one.error else str(one.out)
        parts.append(Text(f"{one.source.name}: {said}", "red" if one.error else ""))
    return parts


def several_lines(outcomes: Sequence[SourceOutcome]) -> Iterator[Line]:
    """Yield a ``source`` line of NDJSON for each source."""
    for one in outcomes:
        fields: dict[str, Any] = {
            "source": str(one.source),
            "out": str(one.out),
            "outcome": one.outcome,
            "seconds": round(one.seconds, 3),
        }
        if one.error is not None:
            fields |= {"error": type(one.error).__name__, "message": one.error.message}
        if one.package is not None:
            ladder = one.package.ladder
            fields |= {"rungs": len(ladder.rungs), "bytes": _bytes(ladder)}
        yield "source", fields


def _of(one: SourceOutcome, fact: Any) -> Any:
    return fact(one.package.ladder) if one.package is not None else None


def _length(ladder: Ladder) -> str:
    return duration(float(ladder.title.frames / ladder.frame_rate))


def _top(ladder: Ladder) -> int:
    return max(rung.bitrate for rung in ladder.rungs)


def _quality(ladder: Ladder) -> float:
    return max(rung.quality[ladder.quality_model].mean for rung in ladder.rungs)


def _bytes(ladder: Ladder) -> int:
    return sum(segment.bytes for rung in ladder.rungs for segment in rung.segments)
