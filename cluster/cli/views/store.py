"""How the runs and titles of a store look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType

from cluster.cli.views.tables import Column, table
from cluster.store.garbage import TitleSize
from cluster.store.manifests import Manifest


def runs_view(runs: Sequence[Manifest]) -> list[RenderableType]:
    """List the runs of a store."""
    columns: list[Column[Manifest]] = [
        Column("run", lambda run: run.id, left=True),
        Column("state", lambda run: run.state, left=True, fold=True),
        Column("title", lambda run: run.title, left=True, fold=True),
        Column("search", lambda run: run.options.get("search"), left=True, fold=True),
        Column("rungs", lambda run: run.rungs),
        Column("source", lambda run: run.source.path, left=True, fold=True),
    ]
    return [table(columns, runs)]


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


def titles_view(titles: Sequence[TitleSize]) -> list[RenderableType]:
    """List what each title takes in a store."""
    columns: list[Column[TitleSize]] = [
        Column("title", lambda title: title.title or None, left=True),
        Column("MB", lambda title: title.bytes / 1e6, ".2f"),
        Column("records", lambda title: title.records),
        Column("blobs", lambda title: title.blobs),
        Column("runs", lambda title: title.runs),
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
