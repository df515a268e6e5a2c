"""How results look to people, and their fields as NDJSON. Pure: values in, renderables out.

Every measured number comes with the name of the model that measured it. Tables fit 80 columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.progress import duration
from cluster.jobs.shots import ListedShots
from cluster.package.comparison import SavedComparison, bits_against
from cluster.package.plots import Plot
from ladder.document import Ladder, Quality, Rung

if TYPE_CHECKING:
    from cluster.jobs.doctor import Finding
    from cluster.jobs.estimate import Estimate
    from cluster.service.documents import Job
    from recommender.caching import PlannedFile
    from recommender.prefetch.document import Prefetch


def plain_table(*columns: tuple[str, str]) -> Table:
    """A table of (header, ``l`` or ``r``) columns, as plain as a table can be."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    for header, side in columns:
        table.add_column(header, justify="right" if side == "r" else "left", no_wrap=True)
    return table


def kbits(bitrate: float) -> str:
    """bit/s as kbit/s, three digits at least."""
    return f"{bitrate / 1000:.0f}" if bitrate >= 100_000 else f"{bitrate / 1000:.1f}"


def clock(frame: int, rate: Fraction) -> str:
    """Where a frame is, as minutes, seconds and milliseconds."""
    seconds = float(frame / rate)
    return f"{int(seconds // 60)}:{seconds % 60:06.3f}"


def size(num_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


# -- a finished ladder -------------------------------------------------------------------------


def ladder_view(ladder: Ladder, compared: SavedComparison | None = None) -> list[RenderableType]:
    """The ladder: what title, which rungs, what is measured and by what, what bounded it."""
    parts: list[RenderableType] = [
        *(ladder_facts(ladder), Text(), _rungs(ladder, compared)),
        *(Text(), _notes(ladder, compared)),
    ]
    others = ladder.quality_models[1:]
    for model in others:
        parts += [Text(), _other_model(ladder, model)]
    return parts


def ladder_facts(ladder: Ladder) -> Text:
    """What title, made how."""
    title, rate = ladder.title, ladder.frame_rate
    search = ladder.search
    shots = len(ladder.rungs[0].segments)
    return Text(
        f"{title.source}: {title.width}x{title.height}, {float(rate):g} fps, "
        f"{clock(title.frames, rate)}, {shots} shots, {kbits(title.source_bitrate)} kbit/s\n"
        f"{ladder.recipe}, policy {ladder.policy}, profile {ladder.profile}; "
        f"{search.mode} search: {search.encodes} encodes (the full grid has "
        f"{search.grid_encodes}), {search.delivered_encodes} delivered"
    )


def _rungs(ladder: Ladder, compared: SavedComparison | None) -> Table:
    predicted = any(rung.predicted_quality is not None for rung in ladder.rungs)
    table = plain_table(
        *(("rung", "l"), ("size", "l"), ("kbit/s", "r"), ("peak", "r")),
        *(("mean", "r"), ("p5", "r"), ("min", "r")),
        *((("pred.", "r"),) if predicted else ()),
        ("slope", "r"),
        *((("vs fixed", "r"),) if compared else ()),
    )
    table.collapse_padding = True  # all of it has to fit into 80 columns
    for rung in ladder.rungs:
        quality = rung.quality[ladder.quality_model]
        slope = ladder.marginal_quality(rung)
        expected = rung.predicted_quality
        table.add_row(
            *(rung.name, f"{rung.width}x{rung.height}"),
            *(kbits(rung.bitrate), kbits(rung.peak_bitrate), *_pooled(quality)),
            *(("-" if expected is None else f"{expected:.2f}",) if predicted else ()),
            "-" if slope is None else f"{slope:#.3g}",
            *((_percent(against_fixed(ladder, rung, compared)),) if compared else ()),
        )
    return table


def against_fixed(ladder: Ladder, rung: Rung, compared: SavedComparison | None) -> float | None:
    """Percent of bits against the fixed ladder at the rung's quality, where that was measured."""
    if compared is None:
        return None
    model = ladder.quality_model
    fixed = compared.ladders["fixed"]
    return bits_against(fixed, rung.bitrate, rung.quality[model].mean, model)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0f} %"


def _pooled(quality: Quality) -> tuple[str, str, str]:
    return f"{quality.mean:.2f}", f"{quality.p5:.2f}", f"{quality.min:.2f}"


def _notes(ladder: Ladder, compared: SavedComparison | None) -> Text:
    model = ladder.quality_model
    lines = [
        "Measured on what is delivered: rates from bytes on disk; mean, p5 and min over all "
        f"frames by {model}.",
        "slope: quality that 100 kbit/s more would add.",
    ]
    if any(rung.predicted_quality is not None for rung in ladder.rungs):
        lines.append(
            f"pred.: the mean by {model} that {predictors(ladder)} predicted before "
            "anything was measured."
        )
    if compared is None:
        lines.append("Not yet measured against other ladders: `shotladder ladder compare` does.")
    else:
        lines += _saved(ladder, compared)
    cost = ladder.locked_cost
    if cost is not None and cost.bd_rate_percent is not None:
        curves = (
            f"curves predicted by {predictors(ladder)}, corrected since"
            if cost.basis == "predicted"
            else "measured curves"
        )
        lines.append(
            f"One size per rung costs {cost.bd_rate_percent:.1f} % of bits against sizes free per "
            f"shot (BD-rate by {model} on {curves})."
        )
    lines += [f"Bounded: {note}" for note in ladder.constraints]
    return Text("\n".join(lines), style="dim")


def predictors(ladder: Ladder) -> str:
    """The complexity model of a ladder's first codec, which is said where there are more."""
    name = predictor(ladder.search.weights)
    return name if len({rung.codec for rung in ladder.rungs}) == 1 else f"{name} ({ladder.codec}'s)"


def predictor(weights: str | None) -> str:
    """The complexity model by name."""
    return f"complexity model {weights[:8]}" if weights else "no model"


_ANCHORS = {
    "against_fixed": "the fixed ladder",
    "against_per_title": "the best per-title CRF ladder",
}


def _saved(ladder: Ladder, compared: SavedComparison) -> Iterator[str]:
    """What a saved comparison says in a line or two."""
    yield "vs fixed: bits against the fixed ladder at this rung's quality, both measured."
    for claims in compared.claims:
        if claims["quality_model"] != ladder.quality_model:
            continue
        for name, label in _ANCHORS.items():
            found = claims.get(name)
            if found and "percent" in found:
                yield (
                    f"BD-rate {found['percent']:+.1f} % against {label} "
                    f"(measured by {ladder.quality_model}, quality {found['low']:.1f} to "
                    f"{found['high']:.1f})."
                )


def _other_model(ladder: Ladder, model: str) -> Table:
    table = plain_table(("rung", "l"), ("kbit/s", "r"), ("mean", "r"), ("p5", "r"), ("min", "r"))
    table.title, table.title_justify, table.title_style = f"also measured by {model}", "left", ""
    for rung in ladder.rungs:
        table.add_row(rung.name, kbits(rung.bitrate), *_pooled(rung.quality[model]))
    return table


def run_summary(ladder: Ladder, run: Mapping[str, Any], out: str) -> str:
    """What a run came to, in one line."""
    first, last = ladder.rungs[0], ladder.rungs[-1]
    model = ladder.quality_model
    return (
        f"{len(ladder.rungs)} rungs, {kbits(first.bitrate)} kbit/s at "
        f"{first.quality[model].mean:.1f} to {kbits(last.bitrate)} kbit/s at "
        f"{last.quality[model].mean:.1f} ({model}), in {duration(run['wall_seconds'])}; "
        f"`shotladder ladder show {out}` shows them"
    )


# -- shots -------------------------------------------------------------------------------------


def shots_view(listed: ListedShots) -> list[RenderableType]:
    """A title's shots."""
    rate = listed.frame_rate
    table = plain_table(
        *(("shot", "r"), ("first", "r"), ("end", "r"), ("start", "r"), ("seconds", "r")),
        ("cuts inside", "l"),
    )
    for number, shot in enumerate(listed.shots):
        table.add_row(
            *(str(number), str(shot.start), str(shot.end), clock(shot.start, rate)),
            *(f"{float(shot.seconds(rate)):.3f}", ", ".join(map(str, shot.cuts))),
        )
    heading = (
        f"{listed.title}: {len(listed.shots)} shots, {listed.frames} frames at {float(rate):g} fps"
    )
    return [Text(heading), Text(), table]


def shot_lines(listed: ListedShots) -> Iterator[tuple[str, dict[str, Any]]]:
    """Shots as NDJSON objects."""
    rate = listed.frame_rate
    for number, shot in enumerate(listed.shots):
        yield (
            "shot",
            {
                "shot": number,
                "start_frame": shot.start,
                "end_frame": shot.end,
                "cuts": list(shot.cuts),
                "start_seconds": round(float(shot.start / rate), 6),
                "seconds": round(float(shot.seconds(rate)), 6),
            },
        )


def plot_lines(plot: Plot) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is drawn, as NDJSON objects; points are bit/s and quality."""
    for series in plot.series:
        points = [[round(point.bitrate), round(point.quality, 4)] for point in series.points]
        yield (
            "series",
            {
                "label": series.label,
                "joined": series.joined,
                "basis": series.basis,
                "points": points,
            },
        )


# -- plans and findings ------------------------------------------------------------------------


def estimate_view(estimate: Estimate) -> list[RenderableType]:
    """What a run would cost."""
    hours = estimate.cpu_hours
    sizes = ", ".join(f"{width}x{height}" for width, height in estimate.sizes)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in (
        ("title", f"{estimate.title}: {estimate.frames} frames in {estimate.shots} shots"),
        ("sizes", sizes),
        (
            "encodes",
            f"about {estimate.encodes} by the {estimate.search} search (the full grid has "
            f"{estimate.grid_encodes}), {estimate.cached_encodes} of them in the store; at most "
            f"{estimate.delivered_encodes} delivered",
        ),
        (
            "CPU",
            f"about {duration(3600 * sum(hours.values()))}: "
            + ", ".join(f"{duration(3600 * value)} {name}" for name, value in hours.items()),
        ),
        ("store", f"about {size(estimate.store_bytes)} more"),
        ("time", f"about {duration(estimate.wall_seconds)} on {estimate.workers} workers"),
    ):
        table.add_row(name, text)
    return [table, Text("Times and sizes are estimates, within a factor of two or so.", "dim")]


def estimate_fields(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON."""
    fields = asdict(estimate)
    fields["sizes"] = [list(one) for one in estimate.sizes]
    return {"plan": fields}


_MARKS = {"ok": ("ok", "green"), "warn": ("note", "yellow"), "bad": ("BAD", "bold red")}


def findings_view(findings: Sequence[Finding]) -> list[RenderableType]:
    """What the doctor found, and what follows from it."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path must be there to the end
    for finding in findings:
        mark, style = _MARKS[finding.state]
        text = Text(finding.found)
        if finding.then:
            text.append(f"\n-> {finding.then}", style="dim")
        table.add_row(Text(mark, style=style), finding.topic, text)
    return [table]


# -- prefetch ----------------------------------------------------------------------------------


def prefetch_view(prefetch: Prefetch) -> list[RenderableType]:
    """With which rung to start from which throughput on, and what its first seconds take."""
    asked = sorted({start.seconds for start in prefetch.starts})
    table = plain_table(
        *(("from kbit/s", "r"), ("rung", "l"), ("quality", "r")),
        *((f"{seconds} s", "r") for seconds in asked),
    )
    rungs = {rung.name: rung for rung in prefetch.rungs}
    for entry in prefetch.startup:
        rung = rungs[entry.rung]
        sizes = {start.seconds: start for start in prefetch.starts if start.rung == entry.rung}
        table.add_row(
            f"{entry.throughput / 1000:.0f}",
            rung.name,
            f"{rung.quality:.1f}",
            *(size(sizes[seconds].bytes) for seconds in asked),
        )
    covers = {start.seconds: start.covers_seconds for start in prefetch.starts}
    plays = ", ".join(f"{seconds} s plays {covers[seconds]:.2f} s" for seconds in asked)
    shots = len(prefetch.boundaries)
    sound = "with sound" if prefetch.audio is not None else "without sound"
    return [
        Text(f"{prefetch.title}: {prefetch.seconds:.2f} s in {shots} shots, {sound}"),
        Text(),
        table,
        Text(),
        Text(
            "Bytes of init segments, video and sound; segments are shots, so "
            f"{plays}.\nquality: mean {prefetch.quality_model}, measured.",
            style="dim",
        ),
    ]


def cache_view(
    shown: Sequence[PlannedFile], planned: Sequence[PlannedFile]
) -> list[RenderableType]:
    """The first files of a cache plan."""
    several = len({one.title for one in planned}) > 1
    table = plain_table(
        *((("title", "l"),) if several else ()),
        *(("file", "l"), ("bytes", "r"), ("quality s/MB", "r"), ("in all", "r")),
    )
    for one in shown:
        table.add_row(
            *((one.title,) if several else ()),
            *(one.uri, size(one.bytes), f"{1e6 * one.density:.4g}", size(one.total_bytes)),
        )
    total = planned[-1].total_bytes if planned else 0
    words = f"{len(shown)} of {len(planned)} files, {size(total)} in all."
    return [table, Text(words, style="dim")]


# -- a service's jobs --------------------------------------------------------------------------


def jobs_view(jobs: Sequence[Job]) -> list[RenderableType]:
    """Jobs, one a line. On a narrow terminal titles are cut, not ids, which people copy."""
    table = plain_table(("job", "l"), ("state", "l"), ("prio", "r"), ("stage", "l"), ("title", "l"))
    for job in jobs:
        progress = job.progress
        stage = f"{progress.stage} {100 * progress.share:.0f} %" if progress else ""
        if job.kind == "plan":
            stage = f"plan {stage}".rstrip()
        table.add_row(job.id, job.state, str(job.priority), stage, job.title)
    for column in table.columns[:3]:
        column.min_width = max((len(str(cell)) for cell in column.cells), default=0)
    return [table]


def job_view(job: Job) -> list[RenderableType]:
    """All about a job that people ask."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = {"job": job.id, "state": job.state, "title": job.title, "source": job.source}
    if job.cancel_requested and job.state == "running":
        rows["state"] = "running, about to be cancelled"
    if job.progress is not None:
        one = job.progress
        rows["stage"] = (
            f"{one.stage}: {one.done} of {one.total}, {100 * one.share:.0f} % of the work"
        )
    if job.deadline is not None:
        rows["deadline"] = f"{job.deadline:%Y-%m-%d %H:%M} UTC{' (missed)' if job.late else ''}"
    if job.started_at is not None:
        ended = job.finished_at or datetime.now(UTC)
        rows["time"] = duration((ended - job.started_at).total_seconds())
    if job.attempts > 1:
        rows["attempts"] = str(job.attempts)
    if job.failure is not None:
        rows["failure"] = job.failure.message
    if job.result is not None and job.result.version is not None:
        rows["version"] = f"{job.result.version}, package {job.result.package}"
        if job.result.superseded:
            rows["version"] += "; a later delivery was published first"
        if job.result.merged_with:
            rows["merged"] = f"same bytes as {job.result.merged_with}, which had made the package"
    for name, text in rows.items():
        table.add_row(name, text)
    return [table]


def plan_view(plan: Mapping[str, Any]) -> list[RenderableType]:
    """An estimate that a service made."""
    from cluster.jobs.estimate import Estimate

    sizes = tuple((width, height) for width, height in plan["sizes"])
    return estimate_view(Estimate(**{**plan, "sizes": sizes}))
