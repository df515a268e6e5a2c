"""The DASH manifest (ISO/IEC 23009-1) of a written package, as pure text.

All times are exact: the timelines count the ticks of the media files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from xml.etree import ElementTree as ET

from encoder.package import cues
from encoder.package.hls import WHOLE_SUBTITLES
from encoder.package.layout import (
    Thumbnails,
    WrittenPackage,
    WrittenSegment,
    WrittenSubtitles,
    WrittenTrack,
    buffered_bitrate,
)

MANIFEST = "manifest.mpd"
"""File name of the manifest."""
NAMESPACE = "urn:mpeg:dash:schema:mpd:2011"
_PROFILES = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019"
_TILE_SCHEME = "http://dashif.org/guidelines/thumbnail_tile"
_CICP_SCHEME = "urn:mpeg:mpegB:cicp"
_ROLE_SCHEME = "urn:mpeg:dash:role:2011"
_PURPOSE_SCHEME = "urn:tva:metadata:cs:AudioPurposeCS:2007"
_HARD_OF_HEARING = "2"  # of that scheme
_PURPOSES = {"description": "1", "narration": "1", "clear speech": _HARD_OF_HEARING}
_ROLES = {"commentary": "commentary", "dub": "dub", "narration": "supplementary"}
_CHANNEL_SCHEME = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"


def manifest(package: WrittenPackage) -> str:
    """Write the MPD: an adaptation set per video codec, audio track and subtitle track."""
    duration = _duration(max(track.duration for track in package.video))
    tracks = [*package.video, *package.sounds]
    longest = max(segment.duration for track in tracks for segment in track.segments)
    mpd = ET.Element(
        "MPD",
        {
            "xmlns": NAMESPACE,
            "profiles": _PROFILES,
            "type": "static",
            "mediaPresentationDuration": duration,
            "maxSegmentDuration": _duration(longest),
            "minBufferTime": _duration(Fraction(package.target_duration)),
        },
    )
    period = ET.SubElement(mpd, "Period", {"id": "0", "start": "PT0S", "duration": duration})
    if package.cues:
        mpd.set("xmlns:scte35", cues.SCHEME)
        cues.event_stream(period, package.cues, package.video[0].timescale)
    number = itertools.count()
    for _, rungs in itertools.groupby(package.video, lambda track: track.codecs.split(".")[0]):
        _video_set(period, next(number), package, list(rungs))
    for track in package.sounds:
        _audio_set(period, next(number), package, track, main=track is package.audio)
    for subtitles in package.subtitles:
        _subtitle_set(period, next(number), subtitles)
    if package.thumbnails is not None:
        _image_set(period, next(number), package, package.thumbnails)
    ET.indent(mpd, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(mpd, encoding="unicode") + "\n"


def _video_set(
    period: ET.Element, number: int, package: WrittenPackage, tracks: Sequence[WrittenTrack]
) -> None:
    rate = package.frame_rate
    adaptation = ET.SubElement(
        period,
        "AdaptationSet",
        {
            "id": str(number),
            "contentType": "video",
            "mimeType": "video/mp4",
            "segmentAlignment": "true",
            "startWithSAP": "1",
            "maxWidth": str(max(track.width for track in tracks)),
            "maxHeight": str(max(track.height for track in tracks)),
            "frameRate": str(rate),
        },
    )
    _colour(adaptation, tracks[0])
    _template(adaptation, tracks[0])
    for track in tracks:
        ET.SubElement(
            adaptation,
            "Representation",
            {
                "id": track.name,
                "codecs": track.codecs,
                "width": str(track.width),
                "height": str(track.height),
                "sar": "1:1",
                "bandwidth": _bandwidth(package, track),
            },
        )


def _colour(adaptation: ET.Element, track: WrittenTrack) -> None:
    """State high dynamic range, which a client must support to play the set (DASH-IF IOP, HDR)."""
    if track.colour is None or track.video_range is None:
        return
    for name, value in (
        ("ColourPrimaries", track.colour.primaries),
        ("TransferCharacteristics", track.colour.transfer),
        ("MatrixCoefficients", track.colour.matrix),
    ):
        attributes = {"schemeIdUri": f"{_CICP_SCHEME}:{name}", "value": str(value)}
        ET.SubElement(adaptation, "EssentialProperty", attributes)


def _audio_set(
    period: ET.Element, number: int, package: WrittenPackage, track: WrittenTrack, *, main: bool
) -> None:
    attributes = {
        "id": str(number),
        "contentType": "audio",
        "mimeType": "audio/mp4",
        "segmentAlignment": "true",
        "startWithSAP": "1",
    }
    if track.language is not None:
        attributes["lang"] = track.language
    adaptation = ET.SubElement(period, "AdaptationSet", attributes)
    if track.title:
        ET.SubElement(adaptation, "Label").text = track.title
    for role, purpose in _PURPOSES.items():
        if role in track.roles:
            value = {"schemeIdUri": _PURPOSE_SCHEME, "value": purpose}
            ET.SubElement(adaptation, "Accessibility", value)
    if package.more_audio:
        stated = [_ROLES[role] for role in track.roles if role in _ROLES]
        for role in ["main", *stated] if main else stated or ["alternate"]:
            _role(adaptation, role)
    _template(adaptation, track)
    representation = ET.SubElement(
        adaptation,
        "Representation",
        {
            "id": track.name,
            "codecs": track.codecs,
            "audioSamplingRate": str(track.sample_rate),
            "bandwidth": _bandwidth(package, track),
        },
    )
    ET.SubElement(
        representation,
        "AudioChannelConfiguration",
        {"schemeIdUri": _CHANNEL_SCHEME, "value": str(track.channels)},
    )


def _role(adaptation: ET.Element, role: str) -> None:
    ET.SubElement(adaptation, "Role", {"schemeIdUri": _ROLE_SCHEME, "value": role})


def _subtitle_set(period: ET.Element, number: int, track: WrittenSubtitles) -> None:
    attributes = {"id": str(number), "contentType": "text", "mimeType": "text/vtt"}
    if track.language is not None:
        attributes["lang"] = track.language
    adaptation = ET.SubElement(period, "AdaptationSet", attributes)
    if track.captions:
        purpose = {"schemeIdUri": _PURPOSE_SCHEME, "value": _HARD_OF_HEARING}
        ET.SubElement(adaptation, "Accessibility", purpose)
    forced = "forced-subtitle" if track.forced else "subtitle"
    _role(adaptation, "caption" if track.hearing_impaired else forced)
    bandwidth = math.ceil(8 * track.size / track.duration)
    representation = ET.SubElement(
        adaptation, "Representation", {"id": track.name, "bandwidth": str(max(1, bandwidth))}
    )
    ET.SubElement(representation, "BaseURL").text = f"{track.directory}/{WHOLE_SUBTITLES}"


def _image_set(
    period: ET.Element, number: int, package: WrittenPackage, thumbnails: Thumbnails
) -> None:
    """Add the thumbnails (DASH-IF IOP, 6.2.6): players take parts of sheets that are alike."""
    adaptation = ET.SubElement(
        period,
        "AdaptationSet",
        {"id": str(number), "contentType": "image", "mimeType": "image/jpeg"},
    )
    video, rows = package.video[0], thumbnails.rows[0]
    lasts = thumbnails.columns * rows * thumbnails.step * video.timescale
    ET.SubElement(
        adaptation,
        "SegmentTemplate",
        {
            "timescale": str(video.timescale),
            "media": thumbnails.template,
            "duration": str(lasts),
            "startNumber": "0",
        },
    )
    representation = ET.SubElement(
        adaptation,
        "Representation",
        {
            "id": "thumbnails",
            "width": str(thumbnails.columns * thumbnails.width),
            "height": str(rows * thumbnails.height),
            "bandwidth": str(thumbnails.bandwidth(video.duration)),
        },
    )
    ET.SubElement(
        representation,
        "EssentialProperty",
        {"schemeIdUri": _TILE_SCHEME, "value": f"{thumbnails.columns}x{rows}"},
    )


def _template(adaptation: ET.Element, track: WrittenTrack) -> None:
    """Add the template of file names and times that all tracks of a set share."""
    folder = track.directory.removesuffix(track.name) + "$RepresentationID$"
    template = ET.SubElement(
        adaptation,
        "SegmentTemplate",
        {
            "timescale": str(track.timescale),
            "initialization": f"{folder}/init.mp4",
            "media": f"{folder}/$Number%05d$.m4s",
            "startNumber": "0",
        },
    )
    timeline = ET.SubElement(template, "SegmentTimeline")
    for index, (ticks, repeats) in enumerate(_runs(track.segments, track.timescale)):
        attributes = {"t": "0"} if index == 0 else {}
        attributes["d"] = str(ticks)
        if repeats:
            attributes["r"] = str(repeats)
        ET.SubElement(timeline, "S", attributes)


def _runs(segments: Iterable[WrittenSegment], timescale: int) -> Iterable[tuple[int, int]]:
    """Yield durations in ticks, each with the number of times that it repeats."""
    for duration, group in itertools.groupby(segment.duration for segment in segments):
        ticks = duration * timescale
        assert ticks.denominator == 1, "frames are not exact in the timescale"
        yield int(ticks), len(list(group)) - 1


def _bandwidth(package: WrittenPackage, track: WrittenTrack) -> str:
    """Return the rate that plays without a stall, at least the track's peak bitrate."""
    buffered = buffered_bitrate(
        [8 * segment.size for segment in track.segments],
        [segment.duration for segment in track.segments],
        package.target_duration,
    )
    return str(math.ceil(max(buffered, track.peak_bitrate(package.target_duration))))


def _duration(seconds: Fraction) -> str:
    whole, millionths = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"PT{whole}.{millionths:06d}".rstrip("0").rstrip(".") + "S"
