"""Where output goes: data to stdout, as NDJSON or for people; summaries to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.events import Event, Listener


Line = tuple[str, Mapping[str, Any]]
"""Type and fields of an NDJSON object."""


def write_lines(lines: Iterable[Line]) -> None:
    """NDJSON objects on stdout."""
    for kind, fields in lines:
        sys.stdout.write(json.dumps({"type": kind, **fields}, ensure_ascii=False) + "\n")


def finish(
    on_event: Listener,
    *,
    as_json: bool,
    result: Mapping[str, Any],
    view: Callable[[], None],
    lines: Iterable[Line] = (),
) -> None:
    """End a command: its ``lines`` and ``done`` as NDJSON, or its ``view`` for people, drawn once
    the live display of its progress is closed.
    """
    from cluster.events import Done

    if as_json:
        write_lines(lines)
    on_event(Done(result))
    if not as_json:
        view()


def show(parts: Iterable[RenderableType]) -> None:
    """Draw on stdout: in colour on a terminal, plain text elsewhere, never wider than asked."""
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def say(text: str) -> None:
    """A line for people on stderr."""
    print(text, file=sys.stderr)


def announced(on_event: Listener, command: str, source: object) -> Listener:
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
            on_event(Started(command, str(source), version("shotladder")))
        on_event(event)

    return first_started
