"""How the verdicts of ``evaluate`` look: tables for each recipe, and NDJSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
            yield Text(verdict.title, style="bold")
            yield _tight(table(_RUNGS, verdict.rungs))
            yield Text()
    yield Text("\n".join(_notes(evaluation)), style="dim")


def _predict_verdicts(evaluation: Evaluation) -> tuple[Verdict, ...]:
    return (*evaluation.verdicts(PREDICT), *evaluation.verdicts(PREDICT, single=True))


def _judged(evaluation: Evaluation, heading: str, *, single: bool) -> Iterator[RenderableType]:
    verdicts = evaluation.verdicts(PREDICT, single=single)
    if not verdicts:
        return
    mean = Summary.of(verdicts)
    yield Text(f"{heading}: {PREDICT} against the exhaustive search", style="bold")
    encodes = _tight(table(_ENCODES, verdicts, mean))
    encodes.add_row("worst", "", _share(mean.worst_loss, 2), _share(mean.worst_rung, 1))
    yield encodes
    yield Text()
    yield _tight(table(_QUALITIES, verdicts, mean))
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


def _range(qualities: tuple[float, float] | None) -> str | None:
    return None if qualities is None else f"{qualities[0]:.1f}-{qualities[1]:.1f}"


def _off(heading: str, name: str, form: str, scale: int = 1) -> Column[Verdict]:
    """Return a column about what was delivered less what was predicted first."""

    def value(verdict: Verdict | Summary) -> float | None:
        return None if verdict.off is None else scale * getattr(verdict.off, name)

    return Column(heading, value, form, total=value)


_ENCODES: list[Column[Verdict]] = [
    Column("title", lambda v: _name(v.title), left=True, total=lambda mean: "mean"),
    Column("shots", lambda v: v.shots),
    Column("loss", lambda v: percent(v.loss), ".2f", total=lambda mean: percent(mean.loss)),
    Column("worst", lambda v: percent(v.worst), ".1f"),
    Column("rungs", lambda v: len(v.rungs)),
    Column("deliv", lambda v: v.delivered, ".0f", total=lambda mean: mean.delivered),
    Column("extra", lambda v: v.extra, ".2f", total=lambda mean: mean.extra),
    Column("grid", lambda v: v.grid),
    Column("saved", lambda v: percent(v.saved), ".0f", total=lambda mean: percent(mean.saved)),
    Column("rounds", lambda v: str(v.rounds), ".1f", total=lambda mean: mean.rounds),
]
_QUALITIES: list[Column[Verdict]] = [
    Column("title", lambda v: _name(v.title), left=True, total=lambda mean: "mean"),
    _off("off", "quality", ".2f"),
    _off("bias", "quality_bias", ".2f"),
    _off("rate", "rate", ".0f", 100),
    _off("bias", "rate_bias", ".0f", 100),
    Column("covered", lambda v: _range(v.qualities)),
    Column("best", lambda v: _range(v.best_qualities)),
    Column("CPU x", lambda v: v.cpu_ratio, ".2f", total=lambda mean: mean.cpu_ratio),
    Column(
        *("saved", lambda v: percent(v.cpu_saved), ".0f"),
        total=lambda mean: percent(mean.cpu_saved),
    ),
    Column("BD", lambda v: v.bd_percent, ".2f", total=lambda mean: mean.bd_percent),
]
_SEARCHES: list[Column[Summary]] = [
    Column(
        "search", lambda s: f"{s.search} ({s.failed} failed)" if s.failed else s.search, left=True
    ),
    Column("loss", lambda s: percent(s.loss), ".2f"),
    Column("worst", lambda s: percent(s.worst_loss), ".1f"),
    Column("rung", lambda s: percent(s.worst_rung), ".0f"),
    Column("extra", lambda s: s.extra, ".2f"),
    Column("encodes", lambda s: s.encodes, ".0f"),
    Column("deliv", lambda s: s.delivered, ".0f"),
    Column("saved", lambda s: percent(s.saved), ".0f"),
    Column("CPU x", lambda s: s.cpu_ratio, ".2f"),
    Column("off", lambda s: None if s.off is None else s.off.quality, ".2f"),
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
        "loss: % of a rung's bits lost at the exhaustive search's slope, mean over rungs; worst: "
        "the largest of a rung."
    )
    yield "extra: encodes beyond the delivered ones, per delivered one. saved: % of the full grid."
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
                    yield f"{verdict.title}, {verdict.search}: no ladder ({verdict.failure})"
    for verdict in _predict_verdicts(evaluation):
        without = len(verdict.rungs) - len(verdict.losses)
        if without and not verdict.failure:
            yield (
                f"{verdict.title}: {without} of {len(verdict.rungs)} rungs have no loss, because "
                "no more bits would make them better"
            )
    yield from _left_out(evaluation.titles)


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
                for name in ("loss", "worst", "extra", "saved", "cpu_saved", "cpu_ratio")
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
