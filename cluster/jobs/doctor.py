"""What this machine can do, and what will happen to a source: findings, as values."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from cluster.execution.executor import usable_cores
from cluster.stages.title import check_hdr
from cluster.store.objects import Objects
from cluster.store.place import store_place
from cluster.store.remote import cache_folder
from encoder import ffmpeg
from encoder.errors import BadInput, ShotladderError, SourceUnusable, StoreUnusable, ToolFailed
from encoder.package.audio import SURROUND_CHANNELS
from encoder.recipes import CODECS
from encoder.source import tonemap
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from ladder.profiles import load_profile, rung_sizes
from vmaf import models

WORKER_BYTES = 2 * 2**30
"""What one worker's ffmpeg takes at 1080p, about: encoders' lookahead and frames in queues."""
STORE_BYTES = 5 * 2**30
"""Free room under which a store is likely to fill with one title."""

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    found: str
    then: str = ""
    """What follows: what will be done with it, or what to do about it."""
    state: State = "ok"


def examine_machine(store: Path | str | None = None) -> tuple[Finding, ...]:
    """ffmpeg and what it can do, processors, memory, the store."""
    return (
        Finding("shotladder", f"{version('shotladder')}, Python {platform.python_version()}"),
        *_tool(),
        *_machine(),
        _store(store_place(store)),
    )


def _tool() -> tuple[Finding, ...]:
    override = os.environ.get(ffmpeg.ENVIRONMENT_VARIABLE)
    origin = f"set by {ffmpeg.ENVIRONMENT_VARIABLE}" if override else "of imageio-ffmpeg"
    try:
        found = Finding("ffmpeg", f"{ffmpeg.version()}, {origin}: {ffmpeg.binary()}")
    except ToolFailed as error:
        return (Finding("ffmpeg", error.message, state="bad"),)
    return found, *_encoders(), _models()


def _encoders() -> tuple[Finding, ...]:
    used = ("libx264", "aac")
    filters = ("libvmaf", "scale", "bwdif", "fps")
    known = ("libx265", "libsvtav1", "libvpx-vp9")
    missing = set(ffmpeg.lacking((*used, *filters, *known)))
    needed = [name for name in (*used, *filters) if name in missing]
    there = [name for name in (*used, *known) if name not in missing]
    findings = [
        Finding("encoders", ", ".join(there) or "none", f"--codec takes {', '.join(CODECS)}")
    ]
    if needed:
        findings.append(
            Finding(
                "missing",
                ", ".join(needed),
                f"unset {ffmpeg.ENVIRONMENT_VARIABLE}, or name an ffmpeg built with them",
                "bad",
            )
        )
    return tuple(findings)


def _models() -> Finding:
    lacking = [] if _models_load(models.KNOWN) else [
        name for name in models.KNOWN if not _models_load([name])
    ]  # fmt: skip
    there = [name for name in models.KNOWN if name not in lacking]
    if models.V1 in lacking:
        return Finding(
            "VMAF models",
            ", ".join(there) or "none",
            f"{models.V1} is needed; name an ffmpeg with a newer libvmaf",
            "bad",
        )
    then = f"not in this build: {', '.join(lacking)}" if lacking else ""
    return Finding("VMAF models", ", ".join(there), then, "warn" if lacking else "ok")


def _models_load(names: Sequence[str]) -> bool:
    """Whether libvmaf scores two small frames with all of ``names``."""
    loaded = "|".join(f"version={name}" for name in names)
    # A filter's option: its separators are escaped once for the option, once for the graph.
    option = loaded.replace(":", "\\\\:")
    # Smaller pictures crash the models made for 2160p.
    picture = "color=gray:size=640x360:rate=25:duration=0.08,format=yuv420p"
    graph = f"{picture}[a];{picture}[b];[a][b]libvmaf=model={option}"
    arguments = ["-v", "error", "-filter_complex", graph, "-f", "null", "-"]
    try:
        ffmpeg.run(ffmpeg.Command.of(arguments), timeout_seconds=120)
    except ToolFailed:
        return False
    return True


def _machine() -> tuple[Finding, ...]:
    cores, memory = usable_cores(), _memory_bytes()
    tight = memory < cores * WORKER_BYTES
    return (
        Finding("cores", str(cores), f"{cores} worker{'s' * (cores > 1)} by default"),
        Finding(
            "memory",
            f"{memory / 2**30:.1f} GiB",
            f"tight for {cores} workers at 1080p; use fewer with --workers" if tight else "",
            "warn" if tight else "ok",
        ),
    )


def _memory_bytes() -> int:
    """Of the machine, or of the container where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit
        return physical


def _store(root: Path | str) -> Finding:
    if isinstance(root, str):
        try:
            Objects(root).find("nothing")
        except (BadInput, StoreUnusable) as error:
            return Finding("store", root, error.message, "bad")
        return Finding("store", root, f"fetched through {cache_folder(root)}")
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = f"{root} ({free / 2**30:.1f} GiB free)"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding(
            "store", found, f"{existing} cannot be written; name another with --store", "bad"
        )
    if free < STORE_BYTES:
        return Finding("store", found, "little room; free some, or use --store", "warn")
    return Finding("store", found, "" if root.exists() else "will be made by the first run")


def examine_source(path: Path) -> tuple[Finding, ...]:
    """What a source is and what will be done with it. Reads headers and packets, no pictures.

    Raises:
        SourceUnusable: it cannot be read, or not by us.
    """
    with tempfile.TemporaryDirectory() as workdir:
        source = plan_guarded(path, Path(workdir))
        remuxed = Path(source.path).parent == Path(workdir).resolve()
        return describe_source(source, path, remuxed=remuxed)


def describe_source(
    source: ReferenceSource, path: Path, *, remuxed: bool = False
) -> tuple[Finding, ...]:
    """As :func:`examine_source`, of a source that is planned already."""
    info = source.info
    seconds = float(source.timeline.duration_seconds)
    return (
        Finding(
            "file",
            f"{info.container.split(',')[0]}, {info.codec}, {seconds:.3f} s, "
            f"{source.index.bitrate / 1000:.0f} kbit/s of video",
            "has no timestamps: is remuxed with times of its decoder" if remuxed else "",
        ),
        _range(source),
        _picture(source),
        _pixels(source),
        _motion(source),
        _ladder(source),
        _sound(source),
        *_subtitles(source),
        *_unread(source),
        *_other_video(source),
    )


def _range(source: ReferenceSource) -> Finding:
    info = source.info
    colours = {info.color_primaries, info.color_transfer, info.color_matrix} - {None}
    named = " ".join(sorted(map(str, colours))) or "colours not named"
    if info.hdr is not None:
        try:
            check_hdr(Path(info.path).name, source)
        except BadInput as error:
            return Finding(
                "colour", f"high dynamic range ({info.hdr}), {named}", error.message, "bad"
            )
        return Finding(
            "colour",
            f"high dynamic range ({info.hdr}), {named}",
            "is carried; quality is that of its picture on a display of standard range "
            f"({tonemap.NAME}); --codec x265 or svtav1, whose rungs have 10 bit, or --tone-map",
        )
    converted = "becomes limited range" if info.color_range == "full" or info.rgb else ""
    return Finding("colour", f"{info.color_range or 'unnamed'} range, {named}", converted)


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
        steady = source.index.steady_rate  # then faster or slower than titles are
        found += f" at {float(steady):.3f} fps" if steady else " at a variable rate"
        then = f"becomes {timeline.frames} frames at a constant {_rate(rate)}"
    if info.scan_corrected == "progressive":
        found += ", flagged interlaced"
        then = ", ".join(filter(None, (then, "is progressive by its pictures, stays as it is")))
    elif info.interlaced:
        found += ", interlaced by its pictures" if info.scan_corrected else ", interlaced"
        then = ", ".join(filter(None, (then, "is deinterlaced")))
    return Finding("frames", found, then)


def _rate(rate: Fraction) -> str:
    return f"{rate} fps" if rate.denominator == 1 else f"{rate} ({float(rate):.3f}) fps"


def _ladder(source: ReferenceSource) -> Finding:
    sizes = rung_sizes(source.width, source.height, load_profile().heights)
    model = models.title_model(source)
    return Finding(
        "ladder", ", ".join(f"{s.width}x{s.height}" for s in sizes), f"is measured by {model}"
    )


def _sound(source: ReferenceSource) -> Finding:
    streams = source.info.audio
    if not streams:
        return Finding("sound", "none")
    listed = "; ".join(
        f"{s.language or 'no language'}: {s.codec}, {s.channels} channels, {s.sample_rate} Hz"
        for s in streams
    )
    then = "is encoded as stereo AAC" if len(streams) == 1 else "each is encoded as stereo AAC"
    if len(streams) > 1:
        then += ", the first plays by default"
    if any(s.channels >= SURROUND_CHANNELS for s in streams):
        then += ", and 5.1 beside it"
    return Finding("sound", listed, then)


def _subtitles(source: ReferenceSource) -> tuple[Finding, ...]:
    streams = source.info.subtitles
    if not streams:
        return ()
    findings = []
    for text, then in ((True, "become WebVTT"), (False, "are pictures: left out")):
        named = [f"{s.language or 'no language'}: {s.codec}" for s in streams if s.text == text]
        if named:
            state: State = "ok" if text else "warn"
            findings.append(Finding("subtitles", "; ".join(named), then, state))
    return tuple(findings)


def _unread(source: ReferenceSource) -> tuple[Finding, ...]:
    streams = source.info.unread
    if not streams:
        return ()
    kinds = {"audio": "sound", "subtitle": "subtitles"}
    named = (f"stream {s.index}: {s.language or 'no language'}, {kinds[s.kind]}" for s in streams)
    return (Finding("unread", "; ".join(named), "nothing here decodes it: left out", "warn"),)


def _other_video(source: ReferenceSource) -> tuple[Finding, ...]:
    found = []
    if source.info.other_video:
        count = source.info.other_video
        found.append(
            Finding(
                "video",
                f"{count + 1} streams of video",
                f"stream {source.info.stream_index} is the title",
                state="warn",
            )
        )
    if source.info.dolby_vision is not None:
        found.append(
            Finding(
                "Dolby Vision",
                f"profile {source.info.dolby_vision.profile} over a base layer that is complete",
                "the base layer is the title; the enhancement is left out",
                state="warn",
            )
        )
    return tuple(found)


def unhealthy(findings: Sequence[Finding], source: Path | None) -> ShotladderError:
    """The error that says what is wrong, in one line."""
    bad = "; ".join(f"{f.topic}: {f.found} ({f.then})" for f in findings if f.state == "bad")
    if source is not None:
        return SourceUnusable(f"{source} cannot be used: {bad}")
    return ShotladderError(f"this machine cannot run shotladder: {bad}")
