"""How the runs and titles of a store look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from cluster.cli.views.tables import Column, facts, size, table
from cluster.store.garbage import TitleSize
from cluster.store.manifests import Manifest


def runs_view(runs: Sequence[Manifest]) -> list[RenderableType]:
    """List the runs of a store."""
    columns: list[Column[Manifest]] = [
        Column("run", lambda run: run.id, left=True),
        Column("state", lambda run: run.state, left=True),
        Column("rungs", lambda run: run.rungs),
        Column("source", lambda run: Path(run.source.path).name, left=True, fold=True),
    ]
    return [table(columns, runs)]


def run_view(run: Manifest) -> list[RenderableType]:
    """Show what is remembered of a run."""
    options = {
        name: value
        for name, value in run.options.items()
        if value not in (None, [], False) and name not in ("profile_content", "profile_sha256")
    }
    rows = [
        ("run", run.id),
        ("state", run.state if run.error is None else f"{run.state}: {run.error}"),
        ("time", f"{run.started} to {run.ended or 'now'}"),
        ("source", f"{run.source.path} ({size(run.source.size)})"),
        ("sha256", run.source.sha256),
        ("title", run.title),
        ("package", f"{run.out}, {run.rungs or 'no'} rungs, {len(run.files)} files"),
        ("digest", run.package or "none yet"),
        ("options", ", ".join(f"{name} {_words(value)}" for name, value in options.items())),
        ("costs", ", ".join(f"{name} {_words(run.costs[name])}" for name in _costs(run))),
        ("versions", ", ".join(f"{name} {value}" for name, value in run.versions.items())),
    ]
    return [facts([(name, text) for name, text in rows if text])]


def _costs(run: Manifest) -> list[str]:
    """Return the names of what a run cost."""
    names = ("encoded_now", "scored_now", "cpu_seconds", "wall_seconds", "workers")
    return [name for name in names if name in run.costs]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "/".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def difference_view(
    run: str, other: str, differences: Sequence[tuple[str, Any, Any]]
) -> list[RenderableType]:
    """Show in what two runs differ."""
    columns: list[Column[tuple[str, Any, Any]]] = [
        Column("what", lambda row: row[0], left=True),
        Column(run, lambda row: str(row[1]), left=True, fold=True),
        Column(other, lambda row: str(row[2]), left=True, fold=True),
    ]
    return [table(columns, differences)]


def titles_view(titles: Sequence[TitleSize], names: Mapping[str, str]) -> list[RenderableType]:
    """List what each title takes in a store; ``names`` are those of the files, by title."""
    columns: list[Column[TitleSize]] = [
        Column("title", lambda title: title.title or None, left=True),
        Column("MB", lambda title: title.bytes / 1e6, ".2f"),
        Column("records", lambda title: title.records),
        Column("blobs", lambda title: title.blobs),
        Column("runs", lambda title: title.runs),
        Column("source", lambda title: names.get(title.title), left=True, fold=True),
    ]
    return [table(columns, titles)]


def check_view(damaged: int, foreign: int, removed: int, repaired: bool) -> str:
    """Return in a line what `store fsck` found.

    Args:
        damaged: number of damaged entries.
        foreign: number of entries that do not belong to their title.
        removed: number of records that were removed because of the latter.
        repaired: whether the damaged entries were removed.
    """
    said = []
    if damaged:
        entries = "entry" if damaged == 1 else "entries"
        said.append(f"{damaged} damaged {entries}" + (" removed" if repaired else ""))
    if foreign:
        entries = "entry that does" if foreign == 1 else "entries that do"
        said.append(
            f"{foreign} {entries} not belong to their title"
            + (f", for which {removed} records are removed" if repaired else "")
        )
    return " and ".join(said) or "no damaged entries, and all belong to their titles"
