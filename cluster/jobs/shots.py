"""The shots of a source or of a finished package, without making a ladder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.package.package import Package
from cluster.stages.analysis import find_title
from cluster.stages.quarantine import reading
from cluster.stages.title import open_title
from cluster.store.place import open_store
from encoder.media import Shot
from encoder.names import shown
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices


@dataclass(frozen=True, slots=True)
class ListedShots:
    """The shots of a title."""

    title: str
    """File name of the source."""
    frame_rate: Fraction
    """Number of frames per second."""
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """Number of frames of the title."""
        return sum(shot.frames for shot in self.shots)


def shots_of_source(
    path: Path,
    store: Path | str | None,
    on_event: events.Listener,
    choices: SourceChoices = DEFAULT_CHOICES,
) -> ListedShots:
    """Find the shots of a video, in the store or by the analysis pass, which a later run reuses.

    Raises:
        BadInput: a choice cannot be right for any source.
        SourceUnusable: the file cannot be read.
    """
    choices.check()
    with (
        contextlib.closing(open_store(store)) as opened,
        opened.scratch() as workdir,
    ):
        source = open_title(path, workdir, choices=choices)
        with reading(opened, source) as bound:
            shots = find_title(path, source, bound, InlineExecutor(), on_event).shots
    return ListedShots(shown(path.name), source.reference.frame_rate, shots)


def shots_of_package(directory: Path) -> ListedShots:
    """List the shots of a finished package.

    Raises:
        BadInput: the folder holds no package.
    """
    package = Package.open(directory)
    return ListedShots(package.ladder.title.source, package.frame_rate, package.shots)
