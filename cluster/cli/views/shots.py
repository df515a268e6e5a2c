"""How the shots of a ladder look: over all rungs, or within one, with why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cluster.cli.views.ladder import against_fixed, clock, kbits, plain_table, predictors, size
from cluster.package.comparison import SavedComparison
from cluster.package.explain import SegmentFacts, ShotFacts
from ladder.document import Ladder, Rung, Segment

WIDE = 120
"""Columns from which the explanation of a shot stands in its row, not under it."""


class ShotTables:
    """What every shot got in every rung, in as many tables as the width asks for."""

    def __init__(self, ladder: Ladder, shots: Sequence[ShotFacts]) -> None:
        self._ladder, self._shots = ladder, shots

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ladder = self._ladder
        several = any(_sizes_differ(rung) for rung in ladder.rungs)
        cell, lead = (22 if several else 13), 50
        per_table = max(1, (options.max_width - lead) // cell)
        yield Text(
            f"CRF and mean quality (measured by {ladder.quality_model}) of each shot in each rung; "
            "bytes and share: of all rungs together, measured; time: share of the title",
            style="dim",
        )
        for first in range(0, len(ladder.rungs), per_table):
            yield Text()
            yield self._part(first, min(first + per_table, len(ladder.rungs)), several)

    def _part(self, first: int, end: int, several: bool) -> Table:
        ladder, rate = self._ladder, self._ladder.frame_rate
        table = plain_table(
            *(("shot", "r"), ("start", "r"), ("frames", "r"), ("bytes", "r")),
            *(("share", "r"), ("time", "r")),
        )
        for rung in ladder.rungs[first:end]:
            table.add_column(rung.name, justify="right", no_wrap=True)
        for shot in self._shots:
            segment = shot.segments[0].segment
            table.add_row(
                str(shot.shot),
                clock(segment.start_frame, rate),
                str(segment.end_frame - segment.start_frame),
                *(size(shot.bytes), f"{shot.share:.1%}", f"{shot.time_share:.1%}"),
                *(_cell(facts, several) for facts in shot.segments[first:end]),
            )
        return table


def _sizes_differ(rung: Rung) -> bool:
    return len({(segment.width, segment.height) for segment in rung.segments}) > 1


def _cell(facts: SegmentFacts, several: bool) -> str:
    segment: Segment = facts.segment
    text = f"{segment.crf:g} {facts.quality:.1f}"
    return f"{segment.width}x{segment.height} {text}" if several else text


class RungTable:
    """The shots of one rung: measured, predicted, and why."""

    def __init__(self, ladder: Ladder, rung: Rung, rows: Sequence[SegmentFacts]) -> None:
        self._ladder, self._rung, self._rows = ladder, rung, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ladder, rung = self._ladder, self._rung
        quality = rung.quality[ladder.quality_model]
        yield Text(
            f"{rung.name}: {rung.width}x{rung.height}, {kbits(rung.bitrate)} kbit/s, mean "
            f"{quality.mean:.2f}, min {quality.min:.2f} (measured by {ladder.quality_model})"
        )
        yield Text()
        wide = options.max_width >= WIDE
        rate = ladder.frame_rate
        known = any(row.predicted_bytes is not None for row in self._rows)
        predicted = known and wide
        table = plain_table(
            *(("shot", "r"), ("start", "r"), ("s", "r"), ("CRF", "r")),
            *(("kbit/s", "r"), ("bytes", "r"), ("share", "r"), ("quality", "r")),
            *((("pred. bytes", "r"), ("pred. q.", "r")) if predicted else ()),
        )
        if wide:
            table.add_column("why")
        for row in self._rows:
            segment = row.segment
            table.add_row(
                *(str(row.shot), clock(segment.start_frame, rate), f"{row.seconds:.2f}"),
                *(f"{segment.crf:g}", kbits(row.bitrate), size(segment.bytes)),
                *(f"{row.share:.1%}", f"{row.quality:.2f}"),
                *(_predicted(row) if predicted else ()),
                *((_why(row),) if wide else ()),
            )
        yield table
        if not wide:
            yield Text()
            for row in self._rows:
                told = "pred. {}, {}; ".format(*_predicted(row)) if known else ""
                yield Text(f"shot {row.shot}: {told}{_why(row)}", style="dim")
        yield Text()
        said = (
            f"Measured: rates and bytes on disk, quality by {ladder.quality_model}. "
            "why: from measured numbers."
        )
        if known:
            said += (
                f" pred.: by {predictors(ladder)} before anything was measured, and "
                "how far the measurement is from it."
            )
        elif ladder.search.weights is None:
            said += f" Nothing was predicted: the search was {ladder.search.mode}."
        yield Text(said, style="dim")


def _predicted(row: SegmentFacts) -> tuple[str, str]:
    if row.predicted_bytes is None or row.predicted_quality is None:
        return "-", "-"
    return (
        f"{size(row.predicted_bytes)} ({row.bytes_error or 0:+.0%})",
        f"{row.predicted_quality:.1f} ({row.quality_error or 0:+.1f})",
    )


def _why(row: SegmentFacts) -> str:
    return f"{row.why}. Search: {row.reason}" if row.reason else row.why


def shots_parts(
    ladder: Ladder, rung: Rung | None, shots: Sequence[ShotFacts], rows: Sequence[SegmentFacts]
) -> list[RenderableType]:
    """Shots over all rungs, or those of ``rung``."""
    if not (shots if rung is None else rows):
        return [Text("no shot is as asked for")]
    return [ShotTables(ladder, shots) if rung is None else RungTable(ladder, rung, rows)]


def ladder_lines(
    ladder: Ladder,
    compared: SavedComparison | None = None,
    rows: Sequence[SegmentFacts] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A ladder as NDJSON: one ``ladder``, then per rung one ``rung`` and, of ``rows``, its
    ``segment`` objects. Fields are those of ``ladder.json``, and what was found beside them.
    """
    document = ladder.model_dump(mode="json", by_alias=True)
    rungs = document.pop("rungs")
    yield "ladder", document
    for rung, of in zip(rungs, ladder.rungs, strict=True):
        count = len(rung.pop("segments"))
        against = against_fixed(ladder, of, compared)
        fixed = {"against_fixed_percent": against} if compared else {}
        yield "rung", {**rung, "segments": count, **fixed}
        if rows is not None:
            yield from (segment_line(row) for row in rows if row.rung == of.name)


def segment_line(row: SegmentFacts) -> tuple[str, dict[str, Any]]:
    """A shot of a rung as an NDJSON object."""
    return "segment", {
        "rung": row.rung,
        **row.segment.model_dump(mode="json"),
        "start_seconds": round(row.start_seconds, 6),
        "seconds": round(row.seconds, 6),
        "bitrate": round(row.bitrate),
        "share": round(row.share, 6),
        "predicted_bytes": row.predicted_bytes,
        "predicted_quality": row.predicted_quality,
        "reason": row.reason,
        "why": row.why,
    }
