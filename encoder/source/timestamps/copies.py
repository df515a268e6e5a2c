"""Copies of sources that cannot be read exactly as they are.

Each kind of copy has an examiner, which returns what to write for a source of that kind and None
for all others. Examiners run in the order of :data:`EXAMINERS`, each on the copy of those before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from encoder.errors import SourceUnusable
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.copy_facts import NO_CHANGES, CopyFacts
from encoder.source.probing.probe import probe
from encoder.source.probing.source_info import SourceInfo
from encoder.source.timestamps import edited, programme, untimed

TIMED_SUFFIXES = ("mp4", "mkv", "ts", "nut")
"""Suffixes that :func:`timed_path` is given."""


class Copy(Protocol):
    """A copy that has to be written before a source can be read."""

    @property
    def suffix(self) -> str:
        """Suffix of the copy, one of :data:`TIMED_SUFFIXES`."""

    @property
    def text_start(self) -> Fraction | None:
        """Time of the first picture on the source's clock, seconds, where subtitles stay behind;
        None where the copy holds them.
        """

    def facts(self, before: CopyFacts) -> CopyFacts:
        """Return what the copy has other than the source, of which ``before`` is already true."""

    def write(self, source: Path, made: Path) -> None:
        """Write the copy of ``source`` to ``made``.

        Raises:
            SourceUnusable: the source cannot be read.
            StoreUnusable: the copy cannot be written.
        """


Examiner = Callable[[Path, SourceChoices], Copy | None]
"""Returns the copy that a source of one kind needs, None for other sources."""

PACKET_EXAMINERS: tuple[Examiner, ...] = (programme.examine,)
"""Examiners that look at packets only; the pictures of their copies have still to be probed."""
EXAMINERS: tuple[Examiner, ...] = (edited.examine, untimed.examine)
"""Examiners of sources whose pictures are known to decode."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that can be read exactly."""

    path: Path
    """File to read: the source or a copy of it."""
    given: SourceInfo
    """What the source is."""
    info: SourceInfo
    """What the file to read is."""
    facts: CopyFacts
    """What the copy has other than the source."""
    text_start: Fraction | None = None
    """Time of the first picture on the source's clock, seconds, where :attr:`path` is a copy that
    lacks the subtitles; else None."""


def prepare(
    source: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    choices: SourceChoices = DEFAULT_CHOICES,
) -> Prepared:
    """Probe a source, and copy it into ``workdir`` where its frames cannot be found by time.

    Coded video and audio are copied, not encoded.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
        StoreUnusable: the copy cannot be written.
    """
    source = Path(source)
    whole, facts, _ = _copied(source, source, workdir, choices, (PACKET_EXAMINERS, NO_CHANGES))
    info = probe(whole)
    given = replace(info, path=str(source.resolve()))
    timed, facts, text_start = _copied(source, whole, workdir, choices, (EXAMINERS, facts))
    if timed != whole:
        # The copy of a programme is gone once it was copied again; its text with it.
        text_start = text_start if whole == source else None
        info = probe(timed) if facts.edits is None else _of_edits(probe(timed), given)
        info = _with_what_stays_behind(info, given, text=text_start is not None)
    return Prepared(timed, given, info, facts, text_start)


def _with_what_stays_behind(info: SourceInfo, given: SourceInfo, *, text: bool) -> SourceInfo:
    """Return what a copy is, with the streams of the source that it lacks."""
    subtitles = tuple(stream for stream in given.subtitles if text or not stream.text)
    return replace(info, subtitles=subtitles, unread=given.unread, other_video=given.other_video)


def _of_edits(info: SourceInfo, given: SourceInfo) -> SourceInfo:
    """Return what a copy of decoded pictures is: of the source is all that its container lacks."""
    order = sorted(each.index for each in given.audio)
    written = sorted(info.audio, key=lambda each: each.index)
    copies = dict(zip(order, written, strict=True))
    return replace(
        given,
        path=info.path,
        container=info.container,
        stream_index=info.stream_index,
        codec=info.codec,
        time_base=info.time_base,
        duration_seconds_from_header=info.duration_seconds_from_header,
        frames_from_header=info.frames_from_header,
        audio=tuple(
            replace(
                each,
                index=copies[each.index].index,
                start_seconds=copies[each.index].start_seconds,
                seconds=copies[each.index].seconds,
            )
            for each in given.audio
        ),
        stated_twice=False,
    )


def ensure_timestamps(
    source: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    choices: SourceChoices = DEFAULT_CHOICES,
) -> Path:
    """Return ``source`` itself, or the copy of it that :func:`prepare` writes.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
        StoreUnusable: the copy cannot be written.
    """
    return prepare(source, workdir, choices).path


def _copied(
    source: Path,
    readable: Path,
    workdir: str | os.PathLike[str],
    choices: SourceChoices,
    examined: tuple[Sequence[Examiner], CopyFacts],
) -> tuple[Path, CopyFacts, Fraction | None]:
    examiners, facts = examined
    text_start = None
    for number, examine in enumerate(examiners):
        copy = examine(readable, choices)
        if copy is None:
            continue
        made = timed_path(source.resolve(), workdir, copy.suffix)
        partial = made.with_name(f"{made.stem}.{os.getpid()}-{number}.{copy.suffix}")
        try:
            copy.write(readable, partial)
            if readable != source:
                readable.unlink()
            readable = partial.replace(made)
        finally:
            partial.unlink(missing_ok=True)
        facts, text_start = copy.facts(facts), copy.text_start
    return readable, facts, text_start


def naming_source(
    error: SourceUnusable, source: str | os.PathLike[str], workdir: str | os.PathLike[str]
) -> SourceUnusable:
    """Return the error with the source's path in place of that of its copy."""
    message = error.message
    for suffix in TIMED_SUFFIXES:
        copy = timed_path(Path(source).resolve(), workdir, suffix)
        message = message.replace(str(copy), str(source)).replace(str(copy.resolve()), str(source))
    return SourceUnusable(message, **error.context)


def timed_path(source: Path, workdir: str | os.PathLike[str], suffix: str) -> Path:
    """Return where :func:`ensure_timestamps` puts its copy of ``source``."""
    # Not the source's own name, which may already be as long as a name can be.
    digest = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    return Path(workdir) / f"{digest}.timed.{suffix}"
