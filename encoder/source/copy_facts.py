"""What the copy of a source that could not be read as it is has other than the source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from encoder.source.later import document, later


@dataclass(frozen=True, slots=True)
class ClockJump:
    """A place where the clock of a source jumps, and its copy goes on without a gap."""

    at_seconds: float
    """Time on the title's clock."""
    by_seconds: float
    """Seconds by which the clock jumps ahead; negative where it jumps back."""


@dataclass(frozen=True, slots=True)
class TransportFacts:
    """One programme of a transport stream, copied with its streams on one clock."""

    programs: tuple[int, ...]
    """Numbers of the programme: several where the file goes on with another one."""
    others: tuple[int, ...] = ()
    """Numbers of the programmes that are left out."""
    moves: int = 0
    """Number of times that streams of the programme moved to other PIDs."""
    dropped: int = 0
    """Pictures left out after such places because they depend on pictures that are not there."""


@dataclass(frozen=True, slots=True)
class EditFacts:
    """An edit list that is applied: what it plays is decoded, and kept without loss."""

    parts: int
    """Parts of the video track that are played."""
    codec: str
    """ffmpeg's canonical name of the source's codec."""
    packet_bytes: int
    """Coded bytes of the pictures that are played; what is played twice counts twice."""
    keyframes: int
    """Keyframes of the source from which what is played is decoded, and those in it."""
    last_seconds: Fraction
    """Time for which the last picture is shown."""
    captions: bool = False
    """True where the pictures carry caption data, which is left out."""


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """How a copy differs from its source; all defaults where only its container does."""

    transport: TransportFacts | None = later(None)
    jumps: tuple[ClockJump, ...] = later(())
    """Where the clock jumped."""
    placed: int = later(0)
    """Pictures without a time of their own, placed between those that have one."""
    lost: int = later(0)
    """Pictures that do not decode, left out of a copy with such times."""
    edits: EditFacts | None = later(None)
    """The edit list of several parts that is applied."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the keys of sound and subtitles contain besides the source: nothing for a source
        that is read as it is.
        """
        return {"copied": document(self)} if self != NO_CHANGES else {}


NO_CHANGES = CopyFacts()
"""Facts of a source that is read as it is."""
