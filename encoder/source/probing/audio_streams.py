"""What each audio stream of a source is, by the container's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import av.stream

from encoder.source.later import later
from encoder.source.opening.streams import is_not_default, language_of

_ONE_CHANNEL = re.compile(r"1 channels \((\w+)\)\Z")
_UNLABELLED = re.compile(r"\d+ channels\Z")
_STEREO = 2
_TITLE_LENGTH = 100
# Letters of words in some scripts, though they print nothing.
_JOINERS = ("\N{ZERO WIDTH NON-JOINER}", "\N{ZERO WIDTH JOINER}")
_FORMAT_WORD = re.compile(
    r"stereo|mono|surround|sound|audio|\d|\d\.\d(\.\d)?|\d?ch|channels?|e?-?ac-?3|ddp?|dts|hd|hra|ma|es"
    r"|truehd|atmos|(he-?)?aac(-?lc)?|flac|l?pcm|mp[23]|opus|vorbis|dolby|digital|plus|\d{1,4}"
    r"|\d{0,4}k?(b/s|bit/s|bps|hz|bits?)",
    re.IGNORECASE,
)

# Names of tracks that some languages give to commentary and to description for the blind. The bare
# word AD counts only in capitals.
_COMMENTARY = re.compile(
    r"\b(commentar(y|ies)|commentaires?|(audio)?kommentar(e|er)?|comentarios?|comentários?|commento"
    r"|director[\u2019']?s comments?)\b|コメンタリー",
    re.IGNORECASE,
)
_DESCRIPTION = re.compile(
    r"\b(audio[ -]?descri(ption|ptions|ptive|bed)|descriptive( (audio|video|service))?"
    r"|described video|audio[ -]?deskription|hörfilm(fassung)?|audio[ -]?descripción"
    r"|audio[ -]?descrição|audio[ -]?descrizione|audio[ -]?beschreibung|dvs)\b|(?-i:\bAD\b)",
    re.IGNORECASE,
)
_WITHOUT = re.compile(r"\b(no|non|not|without|ohne|sans|sin|sem|senza)\b", re.IGNORECASE)

AudioRole = Literal[
    "description", "commentary", "clear speech", "effects", "narration", "dub", "original"
]
"""What a stream of sound is beside the title's own: description for the blind (with the title's
sound), commentary, speech for the hard of hearing, music and effects without speech, description
without the title's sound, a dubbed language, the language in which the title was made."""
ASIDE = frozenset({"description", "commentary", "clear speech", "effects", "narration"})
"""Roles of sound that plays by default only where there is no other."""


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio stream of a source."""

    index: int
    """Index of the stream in the file."""
    codec: str
    """ffmpeg's canonical name of the codec."""
    channels: int
    sample_rate: int
    """Sample rate in Hz."""
    language: str | None
    """Language tag as written in the file, None without one."""
    start_seconds: Fraction | None
    """Presentation time of the first sample on the file's clock, None when the file does not state
    it."""
    title: str | None = later(None)
    """What the file calls the stream, printable, None where it has no name."""
    roles: tuple[AudioRole, ...] = later(())
    """What the stream is marked as or named; nothing for the sound of the title itself."""
    position: str | None = later(None)
    """ffmpeg's name of the one channel of the stream (``FL``), where the file states it."""
    unlabelled: bool = later(False)
    """True where a stream of several channels does not state their positions."""
    seconds: Fraction | None = later(None)
    """Duration that the file claims of one of several streams of one channel."""
    enabled: bool = later(False)
    """True where one of several streams of one channel is marked as default."""


def audio_streams(streams: Iterable[av.AudioStream]) -> tuple[AudioStream, ...]:
    """Describe streams in the order in which they are offered; the first plays by default.

    Streams marked as default come first, and those that are aside from the title's sound last. What
    a stream is, its marks say, else its name.
    """
    streams = list(streams)
    marked = {stream.index: _roles(stream) for stream in streams}
    named = {
        stream.index: () if ASIDE & set(marked[stream.index]) else named_role(_name(stream))
        for stream in streams
    }
    roles = {index: (*marked[index], *named[index]) for index in marked}
    # Where a name would leave no sound of the title itself, it means something else, as in sports.
    if all(ASIDE & set(found) for found in roles.values()):
        roles = marked
    streams.sort(
        key=lambda stream: (bool(ASIDE & set(roles[stream.index])), is_not_default(stream))
    )
    discrete = sum(stream.codec_context.channels == 1 for stream in streams) > 1
    return tuple(_audio(stream, roles[stream.index], discrete=discrete) for stream in streams)


def named_role(name: str) -> tuple[AudioRole, ...]:
    """Return the role that the name of a track tells, if it tells one."""
    if _WITHOUT.search(name):
        return ()
    if _DESCRIPTION.search(name):
        return ("description",)
    return ("commentary",) if _COMMENTARY.search(name) else ()


def _name(stream: av.AudioStream) -> str:
    return stream.metadata.get("title") or stream.metadata.get("name") or ""


def _audio(stream: av.AudioStream, roles: tuple[AudioRole, ...], *, discrete: bool) -> AudioStream:
    start, seconds = None, None
    if stream.time_base is not None:
        if stream.start_time is not None:
            start = Fraction(stream.start_time) * stream.time_base
        if stream.duration is not None:
            seconds = Fraction(stream.duration) * stream.time_base
    context = stream.codec_context
    alone = context.channels == 1
    labelled = _ONE_CHANNEL.match(context.layout.name) if alone else None
    return AudioStream(
        index=stream.index,
        codec=context.codec.canonical_name,
        channels=context.channels,
        sample_rate=context.sample_rate,
        language=language_of(stream),
        start_seconds=start,
        title=shown_title(_name(stream)),
        roles=roles,
        position=labelled[1] if labelled else None,
        unlabelled=context.channels > _STEREO
        and _UNLABELLED.match(context.layout.name) is not None,
        seconds=seconds if discrete and alone else None,
        enabled=discrete and alone and not is_not_default(stream),
    )


def shown_title(given: str) -> str | None:
    """Return the name of a stream without control signs, of bounded length.

    A name that only describes the format of the source is none: it would be wrong of the package.
    """
    shown = "".join(c if c.isprintable() or c in _JOINERS else " " for c in given)
    title = " ".join(shown.split())
    if all(_FORMAT_WORD.fullmatch(word) for word in re.split(r"[\s@,|()\[\]-]+", title) if word):
        return None
    if len(title) > _TITLE_LENGTH:
        title = title[: _TITLE_LENGTH - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return title or None


def _roles(stream: av.stream.Stream) -> tuple[AudioRole, ...]:
    marks, flag = stream.disposition, av.stream.Disposition
    described = marks & (flag.visual_impaired | flag.descriptions)
    stated: tuple[tuple[AudioRole, object], ...] = (
        ("description", described and not marks & flag.dependent),
        ("narration", described and marks & flag.dependent),
        ("commentary", marks & flag.comment),
        ("clear speech", marks & flag.hearing_impaired),
        ("effects", marks & flag.clean_effects),
        ("dub", marks & flag.dub),
        ("original", marks & flag.original),
    )
    return tuple(role for role, marked in stated if marked)
