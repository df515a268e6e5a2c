"""Where output goes: data to stdout, as NDJSON or for people; summaries to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.events import Event, Report


def write_line(kind: str, fields: Mapping[str, Any]) -> None:
    """One NDJSON object of type ``kind`` on stdout."""
    sys.stdout.write(json.dumps({"type": kind, **fields}, ensure_ascii=False) + "\n")


def show(parts: Iterable[RenderableType]) -> None:
    """Draw on stdout: in colour on a terminal, plain text elsewhere, never wider than asked."""
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def say(text: str) -> None:
    """A line for people on stderr."""
    print(text, file=sys.stderr)


def announced(report: Report, command: str, source: object) -> Report:
    """``report`` that says ``started`` before the first thing it is told: a command that ends
    with a mistake of the user's has not started.
    """
    from importlib.metadata import version

    from cluster.events import Started

    begun = False

    def first_started(event: Event) -> None:
        nonlocal begun
        if not begun:
            begun = True
            report(Started(command, str(source), version("shotladder")))
        report(event)

    return first_started
