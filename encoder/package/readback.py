"""A parser of playlists for verification, which reads them as a player would.

It deliberately shares no code with :mod:`encoder.package.hls` and :mod:`encoder.package.dash`, so
that verification does not repeat a mistake made there. It only supports what our packages use;
in every function, anything else is a :class:`ValueError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from xml.etree import ElementTree as ET

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|\Z)')
_NUMBER = re.compile(r"\$Number%0(\d+)d\$")
_MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@dataclass(frozen=True, slots=True)
class PlaylistEntry:
    """One segment, or one key frame, of a media playlist."""

    uri: str
    duration: Fraction
    """Duration in seconds, as written to the microsecond."""
    byte_range: tuple[int, int] | None
    """Length and offset in bytes, None for the whole file."""


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """A media playlist."""

    target_duration: int
    """Value of ``EXT-X-TARGETDURATION``, seconds."""
    init_uri: str
    entries: tuple[PlaylistEntry, ...]
    tags: frozenset[str]
    """Names of all its tags."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A track in the multivariant playlist."""

    uri: str
    """URI of its media playlist as written."""
    attributes: Mapping[str, str]
    """Attributes as written, without quotes."""


@dataclass(frozen=True, slots=True)
class MasterPlaylist:
    """The multivariant playlist."""

    variants: tuple[Variant, ...]
    """Rungs, each an ``EXT-X-STREAM-INF``."""
    iframes: tuple[Variant, ...]
    """Trick-play tracks, each an ``EXT-X-I-FRAME-STREAM-INF``."""
    media: tuple[Variant, ...]
    """Audio and subtitle tracks, ``EXT-X-MEDIA``."""


@dataclass(frozen=True, slots=True)
class DashTrack:
    """A representation with its files, each with its exact start and duration."""

    name: str
    """Id of the representation."""
    content_type: str
    """Kind of media, ``video`` or ``audio``."""
    attributes: Mapping[str, str]
    init_uri: str
    timescale: int
    segments: tuple[tuple[str, Fraction, Fraction], ...]
    """URI, start and duration in seconds of each segment."""


@dataclass(frozen=True, slots=True)
class DashSet:
    """What an adaptation set declares."""

    name: str
    """Id of its first representation."""
    content_type: str
    """Kind of media, ``video``, ``audio`` or ``text``."""
    language: str
    """Language tag, empty without one."""
    roles: tuple[str, ...]
    purposes: tuple[str, ...]
    """Values of ``Accessibility``."""
    channels: str
    """Number of channels of sound, empty for other media."""


def parse_master(text: str) -> MasterPlaylist:
    """Read a multivariant playlist."""
    lines = _lines(text)
    variants: list[Variant] = []
    iframes: list[Variant] = []
    media: list[Variant] = []
    for index, line in enumerate(lines):
        name, _, value = line.partition(":")
        if name == "#EXT-X-STREAM-INF":
            if index + 1 == len(lines) or lines[index + 1].startswith("#"):
                raise ValueError(f"line {index + 1}: a variant without a URI")
            variants.append(Variant(lines[index + 1], _attributes(value)))
        elif name in ("#EXT-X-I-FRAME-STREAM-INF", "#EXT-X-MEDIA"):
            attributes = _attributes(value)
            tracks = iframes if name == "#EXT-X-I-FRAME-STREAM-INF" else media
            tracks.append(Variant(attributes.get("URI", ""), attributes))
    return MasterPlaylist(tuple(variants), tuple(iframes), tuple(media))


def parse_media(text: str) -> MediaPlaylist:
    """Read a media playlist."""
    target, init_uri, duration = 0, "", None
    byte_range: tuple[int, int] | None = None
    entries: list[PlaylistEntry] = []
    tags = set()
    for number, line in enumerate(_lines(text), 1):
        name, _, value = line.partition(":")
        try:
            if not line.startswith("#"):
                if duration is None:
                    raise ValueError("a URI without EXTINF")
                entries.append(PlaylistEntry(line, duration, byte_range))
                duration, byte_range = None, None
                continue
            tags.add(name.removeprefix("#"))
            if name == "#EXT-X-TARGETDURATION":
                target = int(value)
            elif name == "#EXT-X-MAP":
                init_uri = _attributes(value)["URI"]
            elif name == "#EXTINF":
                duration = Fraction(Decimal(value.split(",")[0]))
            elif name == "#EXT-X-BYTERANGE":
                length, _, offset = value.partition("@")
                byte_range = int(length), int(offset)
        except (ValueError, KeyError, InvalidOperation) as error:
            raise ValueError(f"line {number}, {line[:60]!r}: {error}") from error
    if not (target and init_uri and entries and "EXT-X-ENDLIST" in tags):
        raise ValueError("it lacks its target duration, its map, its segments or its end")
    return MediaPlaylist(target, init_uri, tuple(entries), frozenset(tags))


def parse_manifest(text: str) -> tuple[DashTrack, ...]:
    """Read the video and audio of an MPD of segment templates with timelines."""
    tracks = []
    for adaptation in _adaptation_sets(text):
        if adaptation.get("contentType") in ("text", "image"):
            continue
        if adaptation.get("startWithSAP") != "1":
            raise ValueError("an adaptation set does not state startWithSAP=1")
        for representation in adaptation.iterfind(f"{_MPD}Representation"):
            try:
                tracks.append(_dash_track(adaptation, representation))
            except (KeyError, AttributeError) as error:
                raise ValueError(f"a representation lacks {error}") from error
    return tuple(tracks)


def parse_sets(text: str) -> tuple[DashSet, ...]:
    """Read what the adaptation sets of an MPD declare, in order."""
    sets = []
    for each in _adaptation_sets(text):
        representation = each.find(f"{_MPD}Representation")
        if representation is None:
            raise ValueError("an adaptation set has no representation")
        channels = representation.find(f"{_MPD}AudioChannelConfiguration")
        sets.append(
            DashSet(
                name=representation.get("id", ""),
                content_type=each.get("contentType", ""),
                language=each.get("lang", ""),
                roles=_values(each, "Role"),
                purposes=_values(each, "Accessibility"),
                channels="" if channels is None else channels.get("value", ""),
            )
        )
    return tuple(sets)


def _values(adaptation: ET.Element, name: str) -> tuple[str, ...]:
    return tuple(each.get("value", "") for each in adaptation.iterfind(f"{_MPD}{name}"))


def parse_texts(text: str) -> tuple[str, ...]:
    """Return the URIs of the subtitles in an MPD, in order."""
    sets = [each for each in _adaptation_sets(text) if each.get("contentType") == "text"]
    urls = [each.findtext(f"{_MPD}Representation/{_MPD}BaseURL") for each in sets]
    if not all(urls):
        raise ValueError("a representation of text lacks its BaseURL")
    return tuple(url for url in urls if url)


def _adaptation_sets(text: str) -> Iterator[ET.Element]:
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if root.tag != f"{_MPD}MPD":
        raise ValueError(f"not an MPD but {root.tag!r}")
    return root.iterfind(f"{_MPD}Period/{_MPD}AdaptationSet")


def parse_subtitles(text: str) -> tuple[int, tuple[PlaylistEntry, ...]]:
    """Return the target duration and the segments of a playlist of WebVTT."""
    # Segments of text have no init segment, so the playlist has no map.
    playlist = parse_media(text + '#EXT-X-MAP:URI="-"\n')
    if "EXT-X-ENDLIST" not in text:
        raise ValueError("it has no end")
    return playlist.target_duration, playlist.entries


def _dash_track(adaptation: ET.Element, representation: ET.Element) -> DashTrack:
    template = adaptation.find(f"{_MPD}SegmentTemplate")
    if template is None:
        raise ValueError("an adaptation set lacks its SegmentTemplate")
    name = representation.attrib["id"]
    timescale = int(template.attrib["timescale"])
    if timescale <= 0:
        raise ValueError(f"a timescale of {timescale}, expected a positive number")
    number = int(template.attrib["startNumber"])
    media = template.attrib["media"].replace("$RepresentationID$", name)
    segments = []
    time = 0
    for element in template.iterfind(f"{_MPD}SegmentTimeline/{_MPD}S"):
        time = int(element.get("t", time))
        duration = int(element.attrib["d"])
        for _ in range(int(element.get("r", 0)) + 1):
            start, length = Fraction(time, timescale), Fraction(duration, timescale)
            segments.append((_numbered(media, number), start, length))
            time += duration
            number += 1
    return DashTrack(
        name=name,
        content_type=adaptation.attrib["contentType"],
        attributes=dict(representation.attrib),
        init_uri=template.attrib["initialization"].replace("$RepresentationID$", name),
        timescale=timescale,
        segments=tuple(segments),
    )


def _numbered(template: str, number: int) -> str:
    return _NUMBER.sub(lambda match: str(number).zfill(int(match[1])), template)


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    if not lines or lines[0] != "#EXTM3U":
        raise ValueError("it does not begin with #EXTM3U")
    return [line for line in lines if line]


def _attributes(text: str) -> dict[str, str]:
    attributes = {match[1]: match[2].strip('"') for match in _ATTRIBUTE.finditer(text)}
    if not attributes:
        raise ValueError(f"no attributes in {text[:60]!r}")
    return attributes
