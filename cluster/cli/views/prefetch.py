"""How prefetch manifests and cache plans look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.views.tables import Column, size, table
from recommender.caching import Objective, PlannedFile
from recommender.prefetch.document import Prefetch, StartupRung

_DENSITIES = {
    Objective.QUALITY: ("quality s/MB", 1e6),
    Objective.OFFLOAD: ("bytes/byte", 1.0),
    Objective.OFFLOAD_NET: ("bytes/byte", 1.0),
    Objective.HITS: ("requests/MB", 1e6),
    Objective.STARTS: ("start requests/MB", 1e6),
}
"""Heading of the density by each objective, and the bytes that it is stated for."""


def prefetch_view(prefetch: Prefetch) -> list[RenderableType]:
    """Show from which throughput on to start with which rung, and the bytes that this takes."""
    starts = {(start.rung, start.seconds): start for start in prefetch.starts}
    covers = {start.seconds: start.covers_seconds for start in prefetch.starts}
    quality = {rung.name: rung.quality for rung in prefetch.rungs}

    def bytes_for(seconds: int) -> Column[StartupRung]:
        return Column(f"{seconds} s", lambda entry: size(starts[entry.rung, seconds].bytes))

    columns: list[Column[StartupRung]] = [
        Column("from kbit/s", lambda entry: entry.throughput / 1000, ".0f"),
        Column("rung", lambda entry: entry.rung, left=True),
        Column("quality", lambda entry: quality[entry.rung], ".1f"),
        *(bytes_for(seconds) for seconds in sorted(covers)),
    ]
    plays = ", ".join(f"{seconds} s plays {covers[seconds]:.2f} s" for seconds in sorted(covers))
    sound = "with sound" if prefetch.audio is not None else "without sound"
    legend = (
        "Bytes: init segments, video and sound. Segments are whole shots, so "
        f"{plays}.\nquality: mean {prefetch.quality_model}, measured."
    )
    return [
        Text(
            f"{prefetch.title}: {prefetch.seconds:.2f} s in {len(prefetch.boundaries)} shots, "
            f"{sound}"
        ),
        *(Text(), table(columns, prefetch.startup)),
        *(Text(), Text(legend, style="dim")),
    ]


def cache_view(
    shown: Sequence[PlannedFile],
    planned: Sequence[PlannedFile],
    objective: Objective = Objective.QUALITY,
) -> list[RenderableType]:
    """Show the first files of a cache plan."""
    heading, per = _DENSITIES[objective]
    several = len({file.title for file in planned}) > 1
    columns: list[Column[PlannedFile]] = [
        Column("title", lambda file: file.title, left=True, shown=several),
        Column("file", lambda file: file.uri, left=True),
        Column("bytes", lambda file: size(file.bytes)),
        Column(heading, lambda file: per * file.density, ".4g"),
        Column("in all", lambda file: size(file.total_bytes)),
    ]
    total = planned[-1].total_bytes if planned else 0
    summary = f"{len(shown)} of {len(planned)} files, {size(total)} in all."
    return [table(columns, shown), Text(summary, style="dim")]
