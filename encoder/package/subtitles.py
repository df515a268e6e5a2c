"""Subtitles as WebVTT: extracted from the source, moved to the title's timeline, cut by shots.

ffmpeg converts text of any kind to WebVTT; pictures of text (PGS, DVB, DVD) cannot be converted and
are left out. HLS requires segments no longer than its target duration, each with every cue that
overlaps it (RFC 8216, 3.5); DASH takes the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoder.errors import SourceUnusable, ToolFailed
from encoder.ffmpeg import (
    DEFAULT_TIMEOUT_SECONDS,
    SOURCE_OPTIONS,
    Command,
    as_arguments,
    default_limits,
    does_not_decode,
    run,
    wrote_too_much,
)
from encoder.package.encodings import usual_encoding
from encoder.package.layout import SubtitleTrack

STAGE_VERSION = 1
"""Part of the store key of extracted subtitles: raise it when their text changes."""

MAX_BYTES = 32 << 20
"""Largest subtitle stream that is accepted, as WebVTT."""
_ARROW = re.compile(r"(\S+)[ \t]+-->[ \t]+(\S+)[ \t]*(.*)\Z")
_TIME = re.compile(r"(?:(\d+):)?([0-5]\d):([0-5]\d)\.(\d{3})\Z")
# Cue settings of WebVTT; anything else in their place is dropped.
_SETTING = re.compile(r"(vertical|line|position|size|align|region):[A-Za-z0-9.,%-]+\Z")

_STRAY_AMPERSAND = re.compile(r"&(?!(amp|lt|gt|nbsp|lrm|rlm|#\d+|#x[0-9A-Fa-f]+);)")
# A "<" that begins neither a tag nor a time of WebVTT.
_STRAY_BRACKET = re.compile(r"<(?!/?([bciuv]|lang|rt|ruby)([. ][^<>]*)?>|[\d:.]+>)")


Part = tuple[Fraction, Fraction | None, Fraction]
"""A part of a text's media that a source plays: its start in the media; its duration, None to the
end; its start in the presentation; all in seconds."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, on the title's timeline."""

    start: Fraction
    """Time at which the text appears, seconds."""
    end: Fraction
    """Time at which the text disappears, seconds."""
    text: str
    """Lines of WebVTT cue text, none of them empty."""
    settings: str = ""
    """WebVTT cue settings, separated by spaces."""


IGNORE_EDITS = ("-ignore_editlist", "1")
"""Options for an MP4 whose text is placed by its parts."""


def extract_command(source: Path, stream_index: int, options: Sequence[str] = ()) -> Command:
    """Build the ffmpeg call of :func:`extract`."""
    return Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "error", "-copyts"),
            *as_arguments(SOURCE_OPTIONS),
            *options,
            *("-i", source),
            *("-map", f"0:{stream_index}", "-map_metadata", "-1", "-c:s", "webvtt"),
            *("-f", "webvtt", "pipe:1"),
        ]
    )


def extract(
    source: Path, stream_index: int, options: Sequence[str] = (), language: str | None = None
) -> tuple[str, str]:
    """Convert a source's subtitle stream to one WebVTT file, on the source's own clock.

    ``options`` are further options of ffmpeg for reading the source. Text that is not UTF-8 is read
    in the usual encoding of its ``language``, if it can be in that one.

    Returns:
        The file, and the encoding of the text, empty for UTF-8.

    Raises:
        SourceUnusable: the stream does not decode, or has an absurd amount of text.
        ToolFailed: ffmpeg failed for another reason.
    """
    leave = f"leave it out with ffmpeg -i IN -map 0 -map -0:{stream_index} -c copy OUT"
    named = f"cannot use {source}: its subtitles (stream {stream_index})"
    encoding = ""
    try:
        try:
            out = _converted(source, stream_index, options)
        except ToolFailed as error:
            if _INVALID not in error.context.get("stderr", ""):
                raise
            encoding = usual_encoding(language, _stored(source, stream_index)) or ""
            if not encoding:
                raise
            decoded = (f"-sub_charenc:{stream_index}", encoding)
            out = _converted(source, stream_index, (*options, *decoded))
    except ToolFailed as error:
        if wrote_too_much(error):
            raise SourceUnusable(
                f"{named} have over {MAX_BYTES >> 20} MiB of text, more than anybody reads; {leave}"
            ) from error
        if not does_not_decode(error):
            raise
        if _INVALID in error.context["stderr"]:
            why = f"is not UTF-8; state its encoding with {recoding(stream_index)}"
        else:
            why = "does not decode; repair it"
        message = f"{named} hold text that {why}, or {leave}"
        raise SourceUnusable(message, **error.context) from error
    return out.decode("utf-8", "replace"), encoding


def recoding(stream_index: int, encoding: str = "CP1252") -> str:
    """Return the command that makes UTF-8 of a subtitle stream."""
    return (
        f"ffmpeg -sub_charenc:{stream_index} {encoding} -i IN -map 0 -c copy -c:{stream_index} ass "
        "OUT.mkv"
    )


_INVALID = "Invalid UTF-8"


def _converted(source: Path, stream_index: int, options: Sequence[str]) -> bytes:
    limits = replace(default_limits(DEFAULT_TIMEOUT_SECONDS), output_bytes=MAX_BYTES)
    return run(extract_command(source, stream_index, options), limits=limits).stdout


def _stored(source: Path, stream_index: int) -> bytes:
    """Return the text of all packets as the source has it."""
    command = Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "error"),
            *as_arguments(SOURCE_OPTIONS),
            *("-i", source, "-map", f"0:{stream_index}", "-c", "copy", "-f", "data", "pipe:1"),
        ]
    )
    limits = replace(default_limits(DEFAULT_TIMEOUT_SECONDS), output_bytes=MAX_BYTES)
    return run(command, limits=limits).stdout


@dataclass(frozen=True, slots=True)
class Unshown:
    """Numbers of the cues of a source that its title does not show."""

    before: int = 0
    """Cues that end before the title begins."""
    after: int = 0
    """Cues that begin when the title has ended."""
    timeless: int = 0
    """Cues that end when they begin, or before."""
    cut: int = 0
    """Cues in no part of the source that is played."""

    @property
    def total(self) -> int:
        """Number of all of them."""
        return self.before + self.after + self.timeless + self.cut

    @staticmethod
    def of(times: Iterable[tuple[Fraction, Fraction]], duration: Fraction) -> Unshown:
        """Count among the starts and ends of all cues, seconds on the title's timeline."""
        found = list(times)
        lasting = [(start, end) for start, end in found if start < end]
        return Unshown(
            before=sum(end <= 0 for _, end in lasting),
            after=sum(start >= duration for start, _ in lasting),
            timeless=len(found) - len(lasting),
        )


def cues(text: str, first_video_pts: Fraction, duration: Fraction) -> tuple[Cue, ...]:
    """Return the cues of :func:`cues_in_title` alone."""
    return cues_in_title(text, first_video_pts, duration)[0]


def cues_in_title(
    text: str,
    first_video_pts: Fraction,
    duration: Fraction,
    parts: Sequence[Part] = (),
) -> tuple[tuple[Cue, ...], Unshown]:
    """Parse a WebVTT file and move its cues to a title's timeline, sorted by their start.

    Cues are cut off outside the title; how many are left out is returned as well.

    Args:
        text: the file.
        first_video_pts: time of the title's first frame in the source, seconds.
        duration: duration of the title, seconds.
        parts: parts of the text's media that the source plays; all of it where there are none.

    Raises:
        ValueError: the text is not WebVTT.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    if not text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").startswith("WEBVTT"):
        raise ValueError(f"not WebVTT: begins with {text[:20]!r}")
    parsed, times, cut = [], [], 0
    for block in re.split(r"\n{2,}", text):
        lines = block.strip("\n").split("\n")
        for number, line in enumerate(lines[:2]):
            match = _ARROW.match(line)
            shown = [part for part in lines[number + 1 :] if part.strip()]
            if match is None or not shown:
                continue
            settings = " ".join(s for s in match[3].split() if _SETTING.match(s))
            # A cue's text must hold no arrow: a parser would take it for another cue.
            cue_text = escaped("\n".join(shown)).replace("-->", "--\N{RIGHTWARDS ARROW}")
            played = _played(_seconds(match[1]), _seconds(match[2]), parts)
            cut += not played
            for start, end in played:
                times.append((start - first_video_pts, end - first_video_pts))
                start, end = max(times[-1][0], Fraction(0)), min(times[-1][1], duration)
                if start < end:
                    parsed.append(Cue(start, end, cue_text, settings))
            break
    in_order = tuple(sorted(parsed, key=lambda cue: (cue.start, cue.end)))
    return in_order, replace(Unshown.of(times, duration), cut=cut)


def _played(
    start: Fraction, end: Fraction, parts: Sequence[Part]
) -> list[tuple[Fraction, Fraction]]:
    """Return when the text of a cue is shown, on the clock of the source."""
    if not parts or start >= end:
        return [(start, end)]
    found: list[tuple[Fraction, Fraction]] = []
    for first, seconds, at in parts:
        begin = max(start, first)
        stop = end if seconds is None else min(end, first + seconds)
        if begin < stop:
            shift = at - first
            if found and found[-1][1] == begin + shift:
                found[-1] = (found[-1][0], stop + shift)
            else:
                found.append((begin + shift, stop + shift))
    return found


def subtitle_track(
    cues: Sequence[Cue],
    boundaries: Sequence[Fraction],
    *,
    language: str | None = None,
    forced: bool = False,
    hearing_impaired: bool = False,
    captions: str = "",
) -> SubtitleTrack:
    """Build a track with one segment per shot, and the whole file, from sorted cues."""
    starts = (Fraction(0), *boundaries[:-1])
    return SubtitleTrack(
        whole=document(cues),
        segments=tuple(
            document([cue for cue in cues if cue.start < end and cue.end > start], mapped=True)
            for start, end in zip(starts, boundaries, strict=True)
        ),
        boundaries=tuple(boundaries),
        language=language,
        forced=forced,
        hearing_impaired=hearing_impaired,
        captions=captions,
    )


def document(cues: Sequence[Cue], *, mapped: bool = False) -> str:
    """Write cues as WebVTT; ``mapped`` adds the clock that segments of HLS must state."""
    head = "WEBVTT\n"
    if mapped:
        head += "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n"
    blocks = [
        f"{webvtt_time(cue.start)} --> {webvtt_time(cue.end)} {cue.settings}".rstrip()
        + f"\n{cue.text}\n"
        for cue in cues
    ]
    return "\n".join([head, *blocks])


def escaped(text: str) -> str:
    """Escape each ``<`` and ``&`` that begins no tag or entity: players would drop the text."""
    return _STRAY_BRACKET.sub("&lt;", _STRAY_AMPERSAND.sub("&amp;", text))


def _seconds(text: str) -> Fraction:
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"not a WebVTT time: {text[:40]!r}")
    hours, minutes, seconds, millis = (int(part or 0) for part in match.groups())
    return Fraction(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis, 1000)


def webvtt_time(seconds: Fraction) -> str:
    """Return a time as cues of WebVTT write it."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}.{millis:03d}"
