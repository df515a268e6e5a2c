"""How the findings of ``doctor`` look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.views.tables import facts
from cluster.jobs.findings import Finding

_MARKS = {"ok": ("ok", "green"), "warn": ("note", "yellow"), "bad": ("BAD", "bold red")}


def findings_view(findings: Sequence[Finding]) -> list[RenderableType]:
    """Show what was found and what follows from it."""
    return [facts(_row(finding) for finding in findings)]


def _row(finding: Finding) -> tuple[Text, str, Text]:
    mark, style = _MARKS[finding.state]
    text = Text(finding.found)
    if finding.then:
        text.append(f"\n-> {finding.then}", style="dim")
    return Text(mark, style=style), finding.topic, text
