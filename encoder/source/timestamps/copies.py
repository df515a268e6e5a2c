"""Copies of sources that cannot be read exactly as they are.

Each kind of copy has an examiner, which returns what to write for a source of that kind and None
for all others. Examiners run in the order of :data:`EXAMINERS`, each on the copy of those before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.timestamps import untimed

TIMED_SUFFIXES = ("mp4", "mkv")
"""Suffixes that :func:`timed_path` is given."""


class Copy(Protocol):
    """A copy that has to be written before a source can be read."""

    @property
    def suffix(self) -> str:
        """Suffix of the copy, one of :data:`TIMED_SUFFIXES`."""

    def write(self, source: Path, made: Path) -> None:
        """Write the copy of ``source`` to ``made``.

        Raises:
            SourceUnusable: the source cannot be read.
            StoreUnusable: the copy cannot be written.
        """


EXAMINERS: tuple[Callable[[Path, SourceChoices], Copy | None], ...] = (untimed.examine,)
"""Return the copy that a source of one kind needs, None for other sources."""


def ensure_timestamps(
    source: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    choices: SourceChoices = DEFAULT_CHOICES,
) -> Path:
    """Return ``source`` itself, or a copy of it in ``workdir`` whose frames can be found by time.

    Coded video and audio are copied, not encoded.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
        StoreUnusable: the copy cannot be written.
    """
    source = readable = Path(source)
    for number, examine in enumerate(EXAMINERS):
        copy = examine(readable, choices)
        if copy is None:
            continue
        made = timed_path(source, workdir, copy.suffix)
        partial = made.with_name(f"{made.stem}.{os.getpid()}-{number}.{copy.suffix}")
        try:
            copy.write(readable, partial)
            if readable != source:
                readable.unlink()
            readable = partial.replace(made)
        finally:
            partial.unlink(missing_ok=True)
    return readable


def timed_path(source: Path, workdir: str | os.PathLike[str], suffix: str) -> Path:
    """Return where :func:`ensure_timestamps` puts its copy of ``source``."""
    # Not the source's own name, which may already be as long as a name can be.
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    return Path(workdir) / f"{digest}.timed.{suffix}"
