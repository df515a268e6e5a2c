"""Count the damage that decoders conceal: pictures come out, but not as they went in.

Some decoders mark such pictures (H.264, MPEG-2, MPEG-4, ProRes), others only write errors to
libav's log (HEVC, FFV1, MJPEG), and a damage that leaves valid syntax is seen by none.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import av.logging

# Errors that decoders report of undamaged streams, too: of headers that break a rule, of pictures
# before a point of entry, of settings that they do not use.
_HARMLESS = re.compile(
    r"Overread VUI|aspect ratio|number of reference frames|exceeds max|SEI|no frame|mmco"
    r"|reorder|co located|Number of slices|Application has requested|deprecated"
    r"|Warning MVs not available|first frame is no keyframe|non-existing PPS|not implemented"
    r"|Skipping invalid undecodable NALU|time_increment|Marker bit missing|RASL"
)
_KEPT_LINES = 10_000  # of one packet


@dataclass(frozen=True, slots=True)
class PictureDamage:
    """What the decoder says of damage to the pictures of a title."""

    pictures: int = 0
    """Source pictures that the decoder marks as damaged."""
    first_seconds: float | None = None
    """Time of the first of them on the title's clock."""
    errors: int = 0
    """Errors that the decoder reported."""
    first_error_seconds: float | None = None
    """About when it reported the first of them, on the title's clock."""


_logging = threading.Lock()  # libav has one log for the whole process


class DamageCounter:
    """Counts damage while a title is decoded. A counter serves one decode."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str, str]] = []
        self._name = ""
        self._pictures = 0
        self._first: float | None = None
        self._errors = 0
        self._first_error: float | None = None
        self._latest: tuple[int, ...] = ()  # errors of the last two packets, the end being one
        self._time = 0.0
        self._begun = False
        self._entered_late = False

    @property
    def found(self) -> PictureDamage:
        """What was found so far."""
        return PictureDamage(self._pictures, self._first, self._errors, self._first_error)

    @contextmanager
    def listening(self, decoder: av.VideoCodecContext) -> Iterator[None]:
        """Have :meth:`packet` find the errors that a decoder reports.

        If another decode of this process is being listened to, only marked pictures are counted.
        The decoder is idle afterwards.
        """
        # The decoder's threads must be idle before it is freed: they wait for the interpreter to
        # write to the log, and it would wait for them.
        if not _logging.acquire(blocking=False):
            try:
                yield
            finally:
                decoder.flush_buffers()
            return
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        self._name = decoder.codec.name
        try:
            with av.logging.Capture(local=False) as self._lines:
                av.logging.set_skip_repeated(False)
                av.logging.set_level(av.logging.ERROR)
                try:
                    yield
                finally:
                    decoder.flush_buffers()
                    av.logging.set_level(level)
                    av.logging.set_skip_repeated(skips)
        finally:
            _logging.release()

    def packet(self, seconds: float | None, *, early: bool = False) -> None:
        """Take what was reported while a packet was decoded.

        Args:
            seconds: when its picture is shown, on the title's clock; None if unknown.
            early: True for a picture before the first one of the title.
        """
        count = len(self._lines)
        lines, self._lines[:count] = self._lines[: min(count, _KEPT_LINES)], []
        self._entered_late |= early and not self._begun
        reported = sum(
            name == self._name and message.endswith("\n") and not _HARMLESS.search(message)
            for _, name, message in lines
        )
        self._latest = (*self._latest[-1:], reported)
        if reported:
            self._errors += reported
            if self._first_error is None:
                self._first_error = round(max(0.0, self._time if seconds is None else seconds), 3)
        self._time = self._time if seconds is None else seconds

    def forget_last(self) -> None:
        """Forget what was reported of the last packet, in which the file may end."""
        self._errors -= sum(self._latest)
        if not self._errors:
            self._first_error = None

    def picture(self, picture: av.VideoFrame, seconds: float) -> None:
        """Take the next picture of the title, shown at ``seconds``."""
        if not self._begun:
            self._begun = True
            if self._entered_late:
                # What was reported so far is about pictures before the first one of the title.
                self._errors, self._first_error, self._latest = 0, None, ()
        if picture.is_corrupt:
            self._pictures += 1
            if self._first is None:
                self._first = round(seconds, 3)
