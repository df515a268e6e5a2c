"""Write results to stdout, as NDJSON or for people, and summaries to stderr."""

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
    """Write NDJSON objects to stdout."""
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
    """End a command: write its ``lines`` and ``done`` as NDJSON, or draw its ``view`` for people.

    The view is drawn after ``done``, which closes the live display of the progress.
    """
    from cluster.events import Done

    if as_json:
        write_lines(lines)
    on_event(Done(result))
    if not as_json:
        view()


def show(parts: Iterable[RenderableType]) -> None:
    """Draw on stdout: in colour on a terminal, as plain text elsewhere."""
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def say(text: str) -> None:
    """Write a line for people to stderr."""
    print(text, file=sys.stderr)


def announced(on_event: Listener, command: str, source: object) -> Listener:
    """Return a listener that reports ``started`` before the first event it passes on.

    A command that ends with a mistake of the user is thereby never reported as started.
    """
    from importlib.metadata import version

    from cluster.events import Started

    started = False

    def with_start(event: Event) -> None:
        nonlocal started
        if not started:
            started = True
            on_event(Started(command, str(source), version("shotladder")))
        on_event(event)

    return with_start
