"""What a command writes: results to stdout, as NDJSON or for people, and summaries to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from encoder.names import shown_in_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.events import Event, Listener


Line = tuple[str, Mapping[str, Any]]
"""Type and fields of an NDJSON object."""


class Output:
    """Where a command reports its events and writes its results."""

    def __init__(self, on_event: Listener, *, as_json: bool) -> None:
        self.on_event = on_event
        self.as_json = as_json

    def announce(self, command: str, source: object) -> Listener:
        """Return a listener that reports ``started`` before the first event it passes on.

        A command that ends with a mistake of the user is thereby never reported as started.
        """
        from importlib.metadata import version

        from cluster.events import Started

        started, on_event = False, self.on_event

        def with_start(event: Event) -> None:
            nonlocal started
            if not started:
                started = True
                on_event(Started(command, str(source), version("shotladder")))
            on_event(event)

        self.on_event = with_start
        return with_start

    def finish(
        self,
        result: Mapping[str, Any],
        view: Callable[[], Iterable[RenderableType] | str],
        lines: Iterable[Line] = (),
        *,
        failure: Exception | None = None,
    ) -> None:
        """End a command: write its ``lines`` and ``done`` as NDJSON, or draw its ``view``.

        The view is drawn after ``done``, which closes the live display of the progress. A
        ``failure`` is raised instead of ``done``, after the lines or the view.
        """
        from cluster.events import Done

        if self.as_json:
            for kind, fields in lines:
                text = json.dumps({"type": kind, **fields}, ensure_ascii=False)
                sys.stdout.write(shown_in_json(text) + "\n")
        if failure is None:
            self.on_event(Done(result))
        if not self.as_json:
            show(view())
        if failure is not None:
            raise failure


def show(parts: Iterable[RenderableType] | str) -> None:
    """Write to stdout: text as it is, parts in colour on a terminal and plain elsewhere."""
    if isinstance(parts, str):
        print(parts)
        return
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def say(text: str) -> None:
    """Write a line for people to stderr, after what stands on stdout already."""
    sys.stdout.flush()
    print(text, file=sys.stderr)
