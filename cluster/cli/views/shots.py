"""How shots look: those of a title, and those of a ladder over all rungs or within one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cluster.cli.views.ladder import predictors
from cluster.cli.views.tables import Column, clock, kbits, size, table
from cluster.jobs.shots import ListedShots
from cluster.package.explain import SegmentFacts, ShotFacts
from encoder.media import Shot
from ladder.document import Ladder, Rung

WIDE = 120
"""Number of columns from which a table of shots has their bytes too."""
_LEAD, _CELL, _SIZED_CELL = 48, 7, 22
"""Columns that a table of shots takes before its first rung, and for each rung."""


# -- of a title --------------------------------------------------------------------------------


def shots_view(listed: ListedShots) -> list[RenderableType]:
    """List a title's shots."""
    rate = listed.frame_rate
    columns: list[Column[tuple[int, Shot]]] = [
        Column("shot", lambda row: row[0]),
        Column("first", lambda row: row[1].start),
        Column("end", lambda row: row[1].end),
        Column("start", lambda row: clock(float(row[1].start / rate))),
        Column("seconds", lambda row: float(row[1].seconds(rate)), ".3f"),
        Column("cuts inside", lambda row: ", ".join(map(str, row[1].cuts)), left=True),
    ]
    heading = (
        f"{listed.title}: {len(listed.shots)} shots, {listed.frames} frames at {float(rate):g} fps"
    )
    return [Text(heading), Text(), table(columns, enumerate(listed.shots))]


def shot_lines(listed: ListedShots) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a title's shots as NDJSON objects."""
    rate = listed.frame_rate
    for number, shot in enumerate(listed.shots):
        fields = {
            "shot": number,
            "start_frame": shot.start,
            "end_frame": shot.end,
            "cuts": list(shot.cuts),
            "start_seconds": round(float(shot.start / rate), 6),
            "seconds": round(float(shot.seconds(rate)), 6),
        }
        yield "shot", fields


# -- of a ladder -------------------------------------------------------------------------------


def shots_parts(
    ladder: Ladder, rung: Rung | None, shots: Sequence[ShotFacts], segments: Sequence[SegmentFacts]
) -> list[RenderableType]:
    """Show shots over all rungs, or the segments of ``rung``."""
    if not (shots if rung is None else segments):
        return [Text("no shot matches these options")]
    return [ShotTables(ladder, shots) if rung is None else RungTable(ladder, rung, segments)]


class ShotTables:
    """Every shot in every rung, in as many tables as the width of the terminal requires."""

    def __init__(self, ladder: Ladder, shots: Sequence[ShotFacts]) -> None:
        self._ladder, self._shots = ladder, shots

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ladder = self._ladder
        sized = any(_sizes_differ(rung) for rung in ladder.rungs)
        per_table = max(1, (options.max_width - _LEAD) // (_SIZED_CELL if sized else _CELL))
        yield Text(
            f"v1 and so on: mean {ladder.quality_model} of each shot in each rung; bytes and "
            "share: all rungs together; time: share of the title",
            style="dim",
        )
        for first in range(0, len(ladder.rungs), per_table):
            yield Text()
            yield self._table(first, min(first + per_table, len(ladder.rungs)), sized)

    def _table(self, first: int, end: int, sized: bool) -> Table:
        columns: list[Column[ShotFacts]] = [
            Column("shot", lambda shot: shot.shot),
            Column("start", lambda shot: clock(shot.segments[0].start_seconds)),
            Column("frames", lambda shot: _frames(shot.segments[0])),
            Column("bytes", lambda shot: size(shot.bytes)),
            Column("share", lambda shot: shot.share, ".1%"),
            Column("time", lambda shot: shot.time_share, ".1%"),
            *(
                Column(_short(self._ladder.rungs[number].name, sized), _cell_of(number, sized))
                for number in range(first, end)
            ),
        ]
        return table(columns, self._shots)


def _frames(facts: SegmentFacts) -> int:
    return facts.segment.end_frame - facts.segment.start_frame


def _short(name: str, sized: bool) -> str:
    """Return the name of a rung without its size, where nothing else is as long in its column."""
    return name if sized else name.rpartition("-")[0] or name


def _sizes_differ(rung: Rung) -> bool:
    return len({(segment.width, segment.height) for segment in rung.segments}) > 1


def _cell_of(rung: int, sized: bool) -> Any:
    def cell(shot: ShotFacts) -> str:
        facts = shot.segments[rung]
        segment = facts.segment
        if not sized:
            return f"{facts.quality:.1f}"
        return f"{segment.width}x{segment.height} {segment.crf:g} {facts.quality:.1f}"

    return cell


class RungTable:
    """The shots of one rung: what was measured, what was predicted, and why."""

    def __init__(self, ladder: Ladder, rung: Rung, segments: Sequence[SegmentFacts]) -> None:
        self._ladder, self._rung, self._segments = ladder, rung, segments

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ladder, rung = self._ladder, self._rung
        quality = rung.quality[ladder.quality_model]
        wide = options.max_width >= WIDE
        predicted = any(facts.predicted_bytes is not None for facts in self._segments)
        yield Text(
            f"{rung.name}: {rung.width}x{rung.height}, {kbits(rung.bitrate)} kbit/s, mean "
            f"{quality.mean:.2f}, min {quality.min:.2f} (measured by {ladder.quality_model})"
        )
        yield Text()
        drawn = table(_rung_columns(wide, predicted), self._segments)
        drawn.collapse_padding = True  # all columns have to fit into 80 characters
        yield drawn
        yield Text()
        yield Text(self._legend(predicted), style="dim")

    def _legend(self, predicted: bool) -> str:
        ladder = self._ladder
        text = "+10 %: quality that a tenth more bits would add."
        if predicted:
            return text + f" pred.: by {predictors(ladder)} before any measurement."
        if ladder.search.weights is None:
            return f"{text} Nothing was predicted: the search was {ladder.search.mode}."
        return text


def _rung_columns(wide: bool, predicted: bool) -> list[Column[SegmentFacts]]:
    return [
        Column("shot", lambda facts: facts.shot),
        Column("start", lambda facts: clock(facts.start_seconds)),
        Column("s", lambda facts: facts.seconds, ".2f"),
        Column("CRF", lambda facts: facts.segment.crf, "g"),
        Column("kbit/s", lambda facts: kbits(facts.bitrate)),
        Column("share", lambda facts: facts.share, ".1%", shown=wide or not predicted),
        Column("quality", lambda facts: facts.quality, ".2f"),
        Column("pred.", lambda facts: facts.predicted_quality, ".1f", shown=predicted),
        Column("+10 %", lambda facts: facts.gain, "+.1f"),
        Column("bytes", lambda facts: size(facts.segment.bytes), shown=wide),
        Column("pred. bytes", _predicted_bytes, shown=wide and predicted),
        Column("reason", lambda facts: facts.word, left=True),
    ]


def _predicted_bytes(facts: SegmentFacts) -> str:
    if facts.predicted_bytes is None:
        return "-"
    return f"{size(facts.predicted_bytes)} ({facts.bytes_error or 0:+.0%})"
