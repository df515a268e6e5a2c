"""How the verdicts of ``evaluate`` look: tables for each recipe, and NDJSON."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.views.tables import ABSENT, Column, kbits, percent, table
from cluster.training.evaluate import PREDICT, Evaluation, TitleResult
from ladder.evaluation.losses import RungLoss
from ladder.evaluation.predictions import LEVELS, Coverage
from ladder.evaluation.verdicts import Summary, Verdict

NAME_WIDTH = 24
"""Longest title that is not cut."""


def evaluation_view(evaluation: Evaluation, *, rungs: bool = False) -> Iterator[RenderableType]:
    """Show the verdicts on all titles; with ``rungs`` also every rung beside the best one."""
    yield Text(
        f"{evaluation.rows} cells of {evaluation.groups} groups; each title is judged by a model "
        "that was not trained on its group\n"
    )
    for recipe in evaluation.recipes:
        under = f"{recipe}, " if len(evaluation.recipes) > 1 else ""
        of_recipe = evaluation.only(recipe)
        yield from _judged(of_recipe, f"{under}titles with several shots", single=False)
        yield from _judged(of_recipe, f"{under}titles of a single shot", single=True)
    yield Text("measured cells within the intervals predicted for them, %", style="bold")
    yield _calibration(evaluation)
    yield Text()
    if rungs:
        for verdict in _predict_verdicts(evaluation):
            yield Text(f"{verdict.title}{_seed(verdict)}", style="bold")
            yield _tight(table(_RUNGS, verdict.rungs))
            yield Text()
    yield Text("\n".join(_notes(evaluation)), style="dim")


def _predict_verdicts(evaluation: Evaluation) -> tuple[Verdict, ...]:
    return (*evaluation.verdicts(PREDICT), *evaluation.verdicts(PREDICT, single=True))


def _judged(evaluation: Evaluation, heading: str, *, single: bool) -> Iterator[RenderableType]:
    verdicts = evaluation.verdicts(PREDICT, single=single)
    if not verdicts:
        return
    titles = [_Title.of(name, verdicts) for name in dict.fromkeys(v.title for v in verdicts)]
    mean = Summary.of(verdicts)
    yield Text(f"{heading}: {PREDICT} against the exhaustive search", style="bold")
    encodes = _tight(table(_ENCODES, titles, mean))
    encodes.add_row("median", "", _share(mean.median_loss, 2))
    worst = (_share(mean.worst_loss, 2), _points(mean.worst_points), _share(mean.worst_rung, 1))
    encodes.add_row("worst", "", *worst)
    yield encodes
    if len(mean.seed_losses) > 1:
        yield Text("loss by seed: " + ", ".join(_share(loss, 2) for loss in mean.seed_losses))
    yield Text()
    yield _tight(table(_QUALITIES, titles, mean))
    yield Text()
    if len(evaluation.searches) > 1:
        yield Text(f"{heading}: means by search", style="bold")
        yield _tight(table(_SEARCHES, summaries(evaluation, single=single)))
        yield Text()


def summaries(evaluation: Evaluation, *, single: bool = False) -> list[Summary]:
    """Return a summary per search, over titles with several shots or over those with one."""
    verdicts = (evaluation.verdicts(search, single=single) for search in evaluation.searches)
    return [Summary.of(of_search) for of_search in verdicts if of_search]


# -- columns -----------------------------------------------------------------------------------


def _tight(drawn: Table) -> Table:
    """Let the first column give way on a narrow terminal: names wrap, numbers stay."""
    drawn.padding = (0, 1, 0, 0)
    drawn.columns[0].no_wrap = False
    drawn.columns[0].overflow = "fold"
    return drawn


def _name(text: str) -> str:
    return text if len(text) <= NAME_WIDTH else text[: NAME_WIDTH - 1] + "…"


def _share(share: float | None, digits: int) -> str:
    return ABSENT if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def _points(points: float | None) -> str:
    return ABSENT if points is None else f"{points:.2f}"


@dataclass(frozen=True, slots=True)
class _Title:
    """A title's row: one search under all seeds."""

    title: str
    shots: int
    rungs: float
    """Mean number of rungs."""
    mean: Summary
    """Means over the seeds."""
    covered: str | None
    """Lowest and highest quality of any of the ladders."""
    best: str | None
    """Lowest and highest quality of the exhaustive search's ladder."""

    @classmethod
    def of(cls, title: str, verdicts: Iterable[Verdict]) -> _Title:
        """Return the row of a title, of whose verdicts there is at least one."""
        own = [verdict for verdict in verdicts if verdict.title == title]
        return cls(
            title,
            own[0].shots,
            statistics.fmean(len(verdict.rungs) for verdict in own),
            Summary.of(own),
            _range([quality for verdict in own for quality in verdict.qualities or ()]),
            _range(own[0].best_qualities or ()),
        )


def _range(qualities: Sequence[float]) -> str | None:
    return f"{min(qualities):.1f}-{max(qualities):.1f}" if qualities else None


def _column(
    heading: str, value: Callable[[Summary], float | None], form: str, *, of_all: bool = True
) -> Column[_Title]:
    """Return a column of a title's mean over seeds, with the mean over titles in the last row."""
    return Column(heading, lambda row: value(row.mean), form, total=value if of_all else None)


def _mean(
    heading: str, name: str, form: str, scale: int = 1, *, of_all: bool = True
) -> Column[_Title]:
    """Return a column of a summary's own numbers."""

    def value(summary: Summary) -> float | None:
        found = getattr(summary, name)
        return None if found is None else scale * found

    return _column(heading, value, form, of_all=of_all)


def _off(heading: str, name: str, form: str, scale: int = 1) -> Column[_Title]:
    """Return a column about what was delivered less what was predicted first."""

    def value(summary: Summary) -> float | None:
        return None if summary.off is None else scale * getattr(summary.off, name)

    return _column(heading, value, form)


_ENCODES: list[Column[_Title]] = [
    Column("title", lambda row: _name(row.title), left=True, total=lambda mean: "mean"),
    Column("shots", lambda row: row.shots),
    _mean("loss", "loss", ".2f", 100),
    _mean("points", "points", ".2f"),
    _mean("worst", "worst_rung", ".1f", 100, of_all=False),
    Column("rungs", lambda row: row.rungs, "g"),
    _mean("deliv", "delivered", ".0f"),
    _mean("extra", "extra", ".2f"),
    _mean("over", "over_best", ".2f"),
    _mean("saved", "saved", ".0f", 100),
    _mean("rounds", "rounds", ".1f"),
]
_QUALITIES: list[Column[_Title]] = [
    Column("title", lambda row: _name(row.title), left=True, total=lambda mean: "mean"),
    _off("off", "quality", ".2f"),
    _off("bias", "quality_bias", ".2f"),
    _off("rate", "rate", ".0f", 100),
    _off("bias", "rate_bias", ".0f", 100),
    Column("covered", lambda row: row.covered),
    Column("best", lambda row: row.best),
    _mean("CPU x", "cpu_ratio", ".2f"),
    _mean("saved", "cpu_saved", ".0f", 100),
    _mean("BD", "bd_percent", ".2f"),
]
_SEARCHES: list[Column[Summary]] = [
    Column(
        "search", lambda s: f"{s.search} ({s.failed} failed)" if s.failed else s.search, left=True
    ),
    Column("loss", lambda s: percent(s.loss), ".2f"),
    Column("median", lambda s: percent(s.median_loss), ".2f"),
    Column("points", lambda s: s.points, ".2f"),
    Column("worst", lambda s: percent(s.worst_loss), ".1f"),
    Column("rung", lambda s: percent(s.worst_rung), ".0f"),
    Column("extra", lambda s: s.extra, ".2f"),
    Column("over", lambda s: s.over_best, ".2f"),
    Column("encodes", lambda s: s.encodes, ".0f"),
    Column("CPU x", lambda s: s.cpu_ratio, ".2f"),
    Column("rounds", lambda s: s.rounds, ".1f"),
]
_RUNGS: list[Column[RungLoss]] = [
    Column("kbit/s", lambda rung: kbits(rung.rate)),
    Column("size", lambda rung: f"{rung.size.width}x{rung.size.height}", left=True),
    Column("quality", lambda rung: rung.quality, ".2f"),
    Column(
        "best size",
        lambda rung: rung.best_size and f"{rung.best_size.width}x{rung.best_size.height}",
        left=True,
    ),
    Column("best", lambda rung: rung.best_quality, ".2f"),
    Column("loss", lambda rung: percent(rung.loss), ".2f"),
    Column("points", lambda rung: rung.points, ".2f"),
    Column("", lambda rung: "saturated" if rung.saturated else "", left=True),
]


# -- calibration -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """Measured cells within their predicted intervals: rate and quality, before and later."""

    group: str
    before: tuple[Coverage, Coverage]
    later: tuple[Coverage, Coverage]


def _calibration(evaluation: Evaluation) -> Table:
    def over(group: str, titles: Sequence[TitleResult]) -> _Calibrated:
        def total(when: str, kind: int) -> Coverage:
            return sum((getattr(title, when)[kind] for title in titles), Coverage())

        before, later = ((total(when, 0), total(when, 1)) for when in ("before", "after"))
        return _Calibrated(group, before, later)

    levels = "/".join(f"{100 * level:.0f}" for level in LEVELS)
    columns: list[Column[_Calibrated]] = [
        Column("group", lambda row: _name(row.group), left=True, total=lambda row: row.group),
        *_coverage("cells", levels, "before"),
        *_coverage("later", levels, "later"),
    ]
    groups = sorted({title.group for title in evaluation.titles})
    rows = [over(g, [title for title in evaluation.titles if title.group == g]) for g in groups]
    return _tight(table(columns, rows, over("all", evaluation.titles)))


def _coverage(heading: str, levels: str, when: str) -> Iterator[Column[_Calibrated]]:
    def cells(row: _Calibrated) -> int | None:
        return getattr(row, when)[0].cells or None

    def within(kind: int) -> Any:
        def shares(row: _Calibrated) -> str | None:
            coverage: Coverage = getattr(row, when)[kind]
            if not coverage.cells:
                return None
            return "/".join(_share(share, 0) for share in coverage.shares)

        return shares

    yield Column(heading, cells, total=cells)
    yield Column(f"rate {levels}", within(0), total=within(0))
    yield Column("quality", within(1), total=within(1))


# -- notes -------------------------------------------------------------------------------------


def _notes(evaluation: Evaluation) -> Iterator[str]:
    yield (
        "loss: % of a rung's bits lost at the exhaustive search's slope, mean over rungs that are "
        "not saturated; points: the same in points of quality, over all rungs; worst: the largest "
        "loss of a rung."
    )
    yield (
        "extra: encodes beyond the delivered ones, per delivered one; over: encodes beyond those "
        "that the exhaustive search's ladder delivers, per one of these. saved: % of the full grid."
    )
    yield (
        "off, bias: delivered minus first predicted quality, in points of each title's own VMAF "
        "model; rate, bias: the same in % of the rate."
    )
    yield (
        "covered, best: lowest and highest quality of the ladder, and of the exhaustive search's "
        "ladder."
    )
    yield (
        "CPU x: CPU of all encodes and scores over that of the delivered ones; saved: % of the "
        "exhaustive search's CPU. Encodes as measured, scores as modelled (8 ms a frame and 20 ns "
        "a pixel of the title), without decoding, features and packaging."
    )
    yield ("BD: BD-rate in % against the exhaustive search, both solved at the same eight rates.")
    yield "later: cells not yet measured when the middle rung of the first plan is."
    for search in evaluation.searches:
        for single in (False, True):
            for verdict in evaluation.verdicts(search, single=single):
                if verdict.failure:
                    where = f"{verdict.title}{_seed(verdict)}, {verdict.search}"
                    yield f"{where}: no ladder ({verdict.failure})"
    for verdict in _predict_verdicts(evaluation):
        without = len(verdict.rungs) - len(verdict.losses)
        if without and not verdict.failure:
            yield (
                f"{verdict.title}{_seed(verdict)}: {without} of {len(verdict.rungs)} rungs have no "
                "loss in bits, because they are saturated: more bits would hardly make them better"
            )
    yield from _left_out(evaluation.titles)


def _seed(verdict: Verdict) -> str:
    return f", seed {verdict.seed}" if verdict.seed else ""


def _left_out(titles: Iterable[TitleResult]) -> Iterator[str]:
    """Name the titles that were not judged, by reason; augmentations count with their title."""
    reasons: dict[str, Counter[str]] = {}
    for title in titles:
        if title.left_out:
            reasons.setdefault(title.left_out, Counter())[title.title.partition("/")[0]] += 1
    for reason, names in reasons.items():
        listed = (name if count == 1 else f"{name} ({count})" for name, count in names.items())
        yield f"not judged, {reason}: {', '.join(listed)}"


# -- NDJSON ------------------------------------------------------------------------------------


def summary_fields(evaluation: Evaluation, *, single: bool = False) -> list[dict[str, Any]]:
    """Return the summaries of each recipe as JSON."""
    return [
        {"recipe": recipe, **asdict(summary)}
        for recipe in evaluation.recipes
        for summary in summaries(evaluation.only(recipe), single=single)
    ]


def evaluation_lines(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a ``verdict`` per title and search, then a ``calibration`` per title."""
    for title in evaluation.titles:
        for verdict in title.verdicts:
            figures = {
                name: _number(getattr(verdict, name))
                for name in (
                    *("loss", "points", "saturated", "worst", "extra", "over_best"),
                    *("saved", "cpu_saved", "cpu_ratio"),
                )
            }
            rest = {"qualities": verdict.qualities}
            yield "verdict", {"recipe": title.recipe} | asdict(verdict) | figures | rest
    for title in evaluation.titles:
        calibration = {
            "title": title.title,
            "group": title.group,
            "quality_model": title.quality_model,
            "left_out": title.left_out,
            "before": [asdict(coverage) for coverage in title.before],
            "after": [asdict(coverage) for coverage in title.after],
        }
        yield "calibration", calibration


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
