"""Describe a source, and how a run will treat it: what is converted, chosen, cut or left out.

Whatever a run does not keep as it is must have a finding here. ``doctor`` shows all findings; a run
shows the warnings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from cluster.jobs.findings import Finding, State
from cluster.jobs.sound_findings import describe_heard, describe_sound
from cluster.jobs.text_findings import describe_texts
from cluster.jobs.transport_findings import describe_transport
from cluster.stages.texts import texts_in_source
from cluster.stages.title import check_hdr, excerpt_name
from cluster.stages.tracks import HeardSound, heard_in_source
from encoder.errors import BadInput
from encoder.source.captions.collecting import CAPTION_TRACK
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.colour import tonemap
from encoder.source.containers.cropping import vbi_lines
from encoder.source.excerpt import Excerpt
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from encoder.source.timeline.constant_rate import conversion
from ladder.profiles import load_profile
from vmaf import models


def examine_source(path: Path, choices: SourceChoices = DEFAULT_CHOICES) -> tuple[Finding, ...]:
    """Examine a file: what it is, and how a run will treat it with these choices.

    Raises:
        SourceUnusable: the file cannot be read, or is not supported.
    """
    with tempfile.TemporaryDirectory() as workdir:
        source = plan_guarded(path, Path(workdir), choices)
        remuxed = Path(source.path).parent == Path(workdir).resolve()
        heard = heard_in_source(source)
        sound = describe_heard(source, heard, encoded=False)
        texts = describe_texts(texts_in_source(source))
        return (*describe_source(source, path, remuxed=remuxed, heard=heard), *sound, *texts)


def describe_source(
    source: ReferenceSource,
    path: Path,
    *,
    remuxed: bool = False,
    heard: Sequence[HeardSound] = (),
) -> tuple[Finding, ...]:
    """Describe a source, and how a run will treat it.

    Args:
        source: the source, as the probe planned to read it.
        path: path of the file.
        remuxed: True where the file had no timestamps and was remuxed with new ones.
        heard: what was heard in its sounds, where somebody listened.
    """
    seconds = float(source.timeline.duration_seconds)
    return (
        Finding(
            "file",
            f"{_coding(source)}, {seconds:.3f} s, "
            f"{source.index.bitrate / 1000:.0f} kbit/s of video",
            _remuxed(source) if remuxed else "",
        ),
        *describe_transport(source),
        _range(source),
        _picture(source),
        *_cropped(source),
        *_stereo(source),
        *_edited(source),
        *_precharged(source),
        _pixels(source),
        _motion(source),
        *_places(source),
        *_ends(source),
        _ladder(source),
        *describe_sound(source, heard),
        *_subtitles(source),
        *_captions(source),
        *_unread(source),
        *_other_video(source),
        *_shortfall(source),
    )


def _coding(source: ReferenceSource) -> str:
    edits = source.copied.edits  # applied in a copy of another kind
    if edits is not None:
        return f"mov, {edits.codec}"
    return f"{source.info.container.split(',')[0]}, {source.info.codec}"


def _remuxed(source: ReferenceSource) -> str:
    copied = source.copied
    if copied.placed:
        return (
            f"{copied.placed} of {source.index.frames} pictures have no time of their own: is "
            "remuxed with times between those of the others"
        )
    if copied.transport is not None or copied.jumps or copied.edits is not None:
        return ""
    return "has no timestamps: is remuxed with timestamps from one decode"


def describe_excerpt(path: Path, excerpt: Excerpt) -> str:
    """Say which part of a source the title is, and how it compares with the whole."""
    return (
        f"only a part of the source is made: {excerpt_name(path.name, excerpt)}; its rate in the "
        f"source is {excerpt.bitrate / 1000:.0f} kbit/s, the whole title's "
        f"{excerpt.of_bitrate / 1000:.0f}"
    )


def _range(source: ReferenceSource) -> Finding:
    info = source.info
    colours = {info.color_primaries, info.color_transfer, info.color_matrix} - {None}
    tags = " ".join(sorted(map(str, colours))) or "colours not tagged"
    if info.hdr is not None:
        found = f"high dynamic range ({info.hdr}), {tags}"
        try:
            check_hdr(Path(info.path).name, source)
        except BadInput as error:
            return Finding("colour", found, error.message, "bad")
        return Finding(
            "colour",
            found,
            "is kept in rungs of 10 bit (--codec x265 or svtav1), or converted with --tone-map; "
            f"quality is measured as on a display of standard range ({tonemap.NAME})",
        )
    converted = "becomes limited range" if info.color_range == "full" or info.rgb else ""
    return Finding("colour", f"{info.color_range or 'untagged'} range, {tags}", converted)


def _picture(source: ReferenceSource) -> Finding:
    info = source.info
    found = f"{info.width}x{info.height}"
    if info.sample_aspect != 1:
        found += f", pixels {info.sample_aspect.numerator}:{info.sample_aspect.denominator}"
    if info.orientation:
        found += f", turned by {' and '.join(info.orientation)}"
    shown = f"{source.width}x{source.height}"
    changed = (info.width, info.height) != (source.width, source.height) or info.orientation
    return Finding("picture", found, f"becomes {shown}, upright, square pixels" if changed else "")


def _cropped(source: ReferenceSource) -> Iterator[Finding]:
    info, crop = source.info, source.info.crop
    if crop is None:
        return
    sides = (("left", crop.left), ("right", crop.right), ("top", crop.top), ("bottom", crop.bottom))
    cut = ", ".join(f"{pixels} at the {side}" for side, pixels in sides if pixels)
    why = "the container crops"
    if vbi_lines(info.codec, info.width, info.height):
        why = "lines of the blanking interval lie above the picture"
    yield Finding(
        "cropping",
        f"{why}: {cut} of {info.width}x{info.height} pixels",
        f"only {info.shown_width}x{info.shown_height} are the title",
        "warn",
    )


def _edited(source: ReferenceSource) -> Iterator[Finding]:
    """Describe several edits, and what their copy lacks."""
    edits = source.copied.edits
    if edits is None:
        return
    then = "they are the title, one after the other; a copy of what they play is kept without loss"
    if edits.captions:
        then += ", in which the captions of its pictures are left out"
    parts = f"the edit list plays {edits.parts} parts"
    yield Finding("edits", parts, then, "warn" if edits.captions else "ok")


def _precharged(source: ReferenceSource) -> Iterator[Finding]:
    if count := source.info.precharge:
        yield Finding(
            "MXF",
            f"the file asks to begin after {count} pictures (pre-charge)",
            "they are part of the title",
            "warn",
        )


def _stereo(source: ReferenceSource) -> Iterator[Finding]:
    if source.info.stereo is not None:
        yield Finding(
            "3D",
            f"the views of both eyes are stored {source.info.stereo}",
            "the picture is delivered flat, as it is decoded; players are not told that it is 3D",
            "warn",
        )


def _pixels(source: ReferenceSource) -> Finding:
    info = source.info
    then = []
    if info.pix_fmt != source.pix_fmt:
        then.append(f"is read as {source.pix_fmt}")
    if info.bit_depth > 8:
        then.append("rungs of x264 and VP9 have 8 bit, those of x265 and SVT-AV1 10")
    return Finding("pixels", f"{info.pix_fmt}, {info.bit_depth} bit", ", ".join(then))


def _motion(source: ReferenceSource) -> Finding:
    info, timeline = source.info, source.timeline
    rate = timeline.frame_rate
    count = source.index.frames
    found, then = f"{count} frame{'s' * (count != 1)}", ""
    if timeline.constant:
        found += f" at {_rate(rate)}"
    else:
        steady = source.index.steady_rate  # a constant rate that titles cannot have
        varies = " at a variable rate" if count > 1 else ""
        found += f" at {float(steady):.3f} fps" if steady else varies
        then = f"becomes {timeline.frames} frames at a constant {_rate(rate)}"
    if info.scan_corrected == "progressive":
        found += ", flagged interlaced"
        then = ", ".join(filter(None, (then, "its pictures are progressive: stays as it is")))
    elif info.interlaced_runs:
        found += f", {sum(run.end - run.start for run in info.interlaced_runs)} of them interlaced"
        if info.flags_contradicted:
            found += f" ({info.flags_contradicted} contradict their flags)"
        then = ", ".join(filter(None, (then, "only those are deinterlaced")))
        return Finding("frames", found, then, "warn" if info.flags_contradicted else "ok")
    elif info.interlaced:
        found += ", interlaced by its pictures" if info.scan_corrected else ", interlaced"
        then = ", ".join(filter(None, (then, "is deinterlaced")))
    return Finding("frames", found, then)


def _places(source: ReferenceSource) -> Iterator[Finding]:
    """Say what a change of the frame rate does to the frames."""
    if source.timeline.constant:
        return
    done = conversion(source.timeline, source.index)
    if not (done.repeated or done.lost or source.timeline.moved):
        return
    counts = (
        f"{done.repeated} repeated",
        f"{done.lost} of {source.index.frames} never shown",
        f"none shown over {float(done.shift_seconds) * 1000:.1f} ms off its time",
    )
    state: State = "warn" if done.lost or source.timeline.moved else "ok"
    then = f"each frame of the {_rate(source.timeline.frame_rate)} shows the latest picture"
    if source.timeline.moved:
        then += "; one whose place is taken moves to the free place beside it"
    yield Finding("frame rate", ", ".join(counts), then, state)


def _ends(source: ReferenceSource) -> Iterator[Finding]:
    """Say what is done where sound and pictures do not begin or end together."""
    ends = source.ends
    if seconds := float(ends.head_held_seconds):
        yield Finding(
            "first picture",
            f"sound begins {seconds:.3f} s before it",
            f"is held for {seconds:.3f} s before its time; --tail cut cuts the sound instead",
            "warn",
        )
    if seconds := float(ends.head_cut_seconds):
        yield Finding(
            "sound",
            f"begins {seconds:.3f} s before the first picture",
            f"its first {seconds:.3f} s are cut",
            "warn",
        )
    if seconds := float(ends.tail_held_seconds):
        yield Finding(
            "last picture",
            "lasts longer than the others by the container, or sound goes on after it",
            f"is held for {seconds:.3f} s more, until both end; --tail cut ends the title with it",
            "warn",
        )
    if seconds := float(ends.tail_cut_seconds):
        yield Finding(
            "sound",
            f"ends {seconds:.3f} s after the last picture",
            f"its last {seconds:.3f} s are cut",
            "warn",
        )
    if seconds := float(ends.unshown_seconds):
        yield Finding(
            "last picture",
            f"the container claims {seconds:.3f} s more for it than it is shown",
            "is not shown for that time",
            "warn",
        )


def _rate(rate: Fraction) -> str:
    return f"{rate} fps" if rate.denominator == 1 else f"{rate} ({float(rate):.3f}) fps"


def _ladder(source: ReferenceSource) -> Finding:
    sizes = load_profile().sizes(source.width, source.height)
    model = models.title_model(source)
    return Finding(
        "ladder",
        ", ".join(f"{s.width}x{s.height}" for s in sizes),
        f"quality is measured by {model}",
    )


def _subtitles(source: ReferenceSource) -> Iterator[Finding]:
    streams = [s for s in source.info.subtitles if s.codec != CAPTION_TRACK]
    treatments: tuple[tuple[bool, str, State], ...] = (
        (True, "become WebVTT", "ok"),
        (False, "are pictures, not text: left out", "warn"),
    )
    for text, then, state in treatments:
        listed = [f"{s.language or 'no language'}: {s.codec}" for s in streams if s.text == text]
        if listed:
            yield Finding("subtitles", "; ".join(listed), then, state)


_CARRIERS = {
    "pictures": "in the pictures",
    "track": "in a caption track",
    "ancillary": "in ancillary data",
}


def _captions(source: ReferenceSource) -> Iterator[Finding]:
    for data in source.captions:
        channels = data.channels()
        where = _CARRIERS[data.origin]
        if data.origin == "track":
            where += f" (stream {data.stream_index}: {data.language or 'no language'})"
        listed = ", ".join(f"{name}: {len(texts)}" for name, texts in channels.items())
        yield Finding(
            "captions",
            f"{where}, {listed}",
            "become WebVTT for every codec, declared as captions"
            + ("; the copy in the pictures is left out" if data.origin == "pictures" else ""),
        )
    empty = [
        s.index
        for s in source.info.subtitles
        if s.codec == CAPTION_TRACK and s.index not in {d.stream_index for d in source.captions}
    ]
    if empty:
        yield Finding(
            "captions",
            f"caption track (stream {', '.join(map(str, empty))})",
            "holds no captions: left out",
        )


def _unread(source: ReferenceSource) -> Iterator[Finding]:
    kinds = {"audio": "sound", "subtitle": "subtitles"}
    listed = [
        f"stream {s.index}: {s.language or 'no language'}, {kinds[s.kind]}"
        for s in source.info.unread
    ]
    if listed:
        yield Finding("unread", "; ".join(listed), "this ffmpeg cannot decode it: left out", "warn")


def _other_video(source: ReferenceSource) -> Iterator[Finding]:
    info = source.info
    if info.other_video:
        found = f"{info.other_video + 1} video streams"
        yield Finding("video", found, f"stream {info.stream_index} is the title", "warn")
    if info.dolby_vision is not None:
        yield Finding(
            "Dolby Vision",
            f"profile {info.dolby_vision.profile} over a complete base layer",
            "the base layer is the title; the enhancement layer is left out",
            "warn",
        )


def _shortfall(source: ReferenceSource) -> Iterator[Finding]:
    short = source.shortfall
    if short is not None:
        then = "what is there is the title" if short.lacks else "may lack its end"
        yield Finding("completeness", short.numbers, then, "warn")
