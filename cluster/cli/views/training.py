"""How sweeps, trained weights and the comparison of two models look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.drawing import duration
from cluster.cli.views.tables import Column, table
from cluster.training.promote import JudgedTitle, WeightsComparison
from cluster.training.sweep import SweepResult, SweptTitle
from cluster.training.train import Trained


def sweep_view(result: SweepResult, path: Path, *, plan: bool) -> Iterator[RenderableType]:
    """Show the titles of a sweep, and what it took or, for a ``plan``, would take."""
    columns: list[Column[SweptTitle]] = [
        Column("title", lambda title: title.source, left=True),
        Column("", lambda title: title.augmentation, left=True),
        Column("group", lambda title: title.group, left=True),
        Column("shots", lambda title: title.shots),
        Column("cells", lambda title: title.cells),
        Column("cached", lambda title: title.cached),
        Column("CPU", lambda title: duration(title.cpu_seconds)),
    ]
    if result.titles:
        yield table(columns, result.titles)
    total = duration(sum(title.cpu_seconds for title in result.titles))
    cells = sum(title.cells - title.cached for title in result.titles)
    cost = f"{cells} cells to measure, about" if plan else f"{cells} cells measured in"
    yield Text(f"{cost} {total} of CPU; {path} has {result.rows} rows")
    for reason in result.skipped.values():
        yield Text(f"left out: {reason}")


def trained_view(trained: Trained) -> Iterator[RenderableType]:
    """Show what weights were trained on, and how far they are off on groups that were left out."""
    yield (
        f"{trained.weights}: model {trained.model}, from {trained.facts['cells']} cells of "
        f"{len(trained.facts['groups'])} groups"
    )
    for recipe, missed in trained.facts["held_out"].items():
        points = missed["quality_error"].items()
        off = "".join(f" and {error:.1f} points of {quality}" for quality, error in points)
        yield (
            f"{recipe}, {missed['cells']} cells: off by {missed['rate_error_percent']:.0f} % of "
            f"bits{off} on unseen groups"
        )


def promotion_view(judged: WeightsComparison, to: Path | None) -> Iterator[RenderableType]:
    """Show two models side by side on titles that neither was trained on, and which is better."""
    comparison = judged.comparison
    columns: list[Column[JudgedTitle]] = [
        Column("title", lambda title: title.title, left=True, fold=True),
        Column("cells", lambda title: title.new.cells),
        Column("log score", lambda title: title.current.log_score, ".3f"),
        Column("new", lambda title: title.new.log_score, ".3f"),
        Column("points off", lambda title: title.current.quality_error, ".2f"),
        Column("new", lambda title: title.new.quality_error, ".2f"),
        Column("bits", lambda title: title.current.log_rate_error, "+.2f"),
        Column("new", lambda title: title.new.log_rate_error, "+.2f"),
    ]
    yield table(columns, judged.titles)
    yield (
        f"{comparison.titles} unseen titles ({judged.seen} left out, which a model was trained "
        f"on): log score {comparison.gain:+.3f} ± {comparison.deviation:.3f}, better on "
        f"{comparison.better_on}; {comparison.quality_error[0]:.2f} → "
        f"{comparison.quality_error[1]:.2f} points off"
    )
    if len(judged.by_recipe) > 1:
        for recipe, own in judged.by_recipe.items():
            yield (
                f"{recipe}: {own.titles} titles, log score {own.gain:+.3f} ± {own.deviation:.3f}, "
                f"better on {own.better_on}"
            )
    if judged.better:
        yield f"better: {f'written to {to}' if to else 'use --to FILE to write it'}"
    elif judged.worse_for:
        yield f"worse for {', '.join(judged.worse_for)}: the current weights stay"
    else:
        yield "not better: the current weights stay"
