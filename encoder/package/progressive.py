"""One rung of a package as one progressive file: MP4 or Matroska, with its sound and subtitles.

Nothing is encoded again: the segments are joined and their samples copied. The file is then read
back by ffmpeg's demuxers and decoders, which did not write it: every frame must be the one that was
scored, at its time, and the sound must decode to what the package's does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import langcodes

from encoder import framehash, mp4
from encoder.errors import BadInput, FrameMismatch, ToolFailed, VerificationFailed
from encoder.ffmpeg import SOURCE_OPTIONS, Command, as_arguments, run
from encoder.package import readback

_T = TypeVar("_T")
Arguments = list[str | Path | int]
SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska"}
"""Formats by the suffix of the file."""
_MP4_FLAGS = {"movflags": "+faststart"}
_TEXT_CODEC = {"mp4": "mov_text", "matroska": "webvtt"}
_SOUND_HASHES = ("-af", "aresample=48000,asetnsamples=n=4800:p=0", "-c:a", "pcm_s16le",
                 "-f", "framehash", "-hash", framehash.ALGORITHM, "pipe:1")  # fmt: skip
"""Hashes of a tenth of a second each."""
_SOUND_TOLERANCE_SECONDS = 0.002
_QUIET = ("-hide_banner", "-v", "error", "-y")


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """A track of a package: its files in order, and what the playlist says of it."""

    init: Path
    segments: tuple[Path, ...]
    language: str = ""
    """BCP 47 tag; empty where it is unknown."""
    label: str = ""
    default: bool = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the whole track, file by file.

        Raises:
            VerificationFailed: a file of the package cannot be read.
        """
        for path in (self.init, *self.segments):
            try:
                yield path.read_bytes()
            except OSError as error:
                raise VerificationFailed(
                    f"{path} cannot be read ({error.strerror}); make the package again"
                ) from error


@dataclass(frozen=True, slots=True)
class SourceSound:
    """A stream of sound of a source, to be copied as it is."""

    path: str
    """Path of the source."""
    stream: int
    """Index of the stream in the file."""
    start_seconds: Fraction
    """Time of the title's beginning on the file's clock."""
    language: str = ""
    label: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class TextFile:
    """Subtitles of a package."""

    path: Path
    """The whole WebVTT file."""
    language: str = ""
    label: str = ""
    default: bool = False
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Progressive:
    """A progressive file that was written."""

    bytes: int
    frames: int
    sounds: int
    texts: int


def read_sounds(directory: Path) -> list[MediaFiles]:
    """Return the sound tracks of a package, in the order of its playlist.

    Raises:
        VerificationFailed: a playlist cannot be read.
    """
    sounds = []
    for medium in _media(directory, "AUDIO"):
        folder = (directory / medium.uri).parent
        playlist = _parsed(directory / medium.uri, readback.parse_media)
        sounds.append(
            MediaFiles(
                init=folder / playlist.init_uri,
                segments=tuple(folder / entry.uri for entry in playlist.entries),
                language=medium.attributes.get("LANGUAGE", ""),
                label=medium.attributes.get("NAME", ""),
                default=medium.attributes.get("DEFAULT") == "YES",
            )
        )
    return sounds


def read_texts(directory: Path) -> list[TextFile]:
    """Return the subtitles of a package, in the order of its playlist.

    Raises:
        VerificationFailed: a playlist cannot be read.
    """
    whole = {
        str(Path(uri).parent): directory / uri
        for uri in _parsed(directory / "manifest.mpd", readback.parse_texts)
    }
    media = _media(directory, "SUBTITLES")
    for medium in media:
        if str(Path(medium.uri).parent) not in whole:
            raise VerificationFailed(
                f"{directory / 'manifest.mpd'} lacks the subtitles {medium.uri!r} of master.m3u8; "
                "make the package again"
            )
    return [
        TextFile(
            path=whole[str(Path(medium.uri).parent)],
            language=medium.attributes.get("LANGUAGE", ""),
            label=medium.attributes.get("NAME", ""),
            default=medium.attributes.get("DEFAULT") == "YES",
            forced=medium.attributes.get("FORCED") == "YES",
        )
        for medium in media
    ]


def write_progressive(
    out: Path,
    video: MediaFiles,
    sounds: Sequence[MediaFiles | SourceSound],
    texts: Sequence[TextFile],
    *,
    seconds: Fraction | None = None,
) -> None:
    """Join a rung, sound and subtitles into one file whose samples are those of the package.

    Args:
        out: the file, whose suffix (:data:`SUFFIXES`) says the format; it is overwritten.
        video: a rung of one size.
        sounds: tracks of sound, in the order of the file.
        texts: subtitles, in the order of the file. MP4 keeps their text alone.
        seconds: time after which sound of a source is cut; None where it needs no cut.

    Raises:
        BadInput: the suffix is of another format.
        VerificationFailed: a file of the package cannot be read.
        ToolFailed: ffmpeg failed.
    """
    form = format_of(out)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shotladder-") as folder:
        inputs: list[Arguments] = []
        for number, sound in enumerate(sounds):
            if isinstance(sound, SourceSound):
                inputs.append(_source_input(sound))
                continue
            path = Path(folder) / f"sound-{number}.mp4"
            with path.open("wb") as file:
                file.writelines(sound.chunks())
            inputs.append(["-i", path])
        hvc1 = _is_hevc(video.init)
        command = mux_command(out, form, inputs, sounds, texts, hvc1=hvc1, seconds=seconds)
        run(command, stdin=video.chunks())


def format_of(out: Path) -> str:
    """Return the name of a file's format, by its suffix.

    Raises:
        BadInput: it is none of :data:`SUFFIXES`.
    """
    form = SUFFIXES.get(out.suffix.lower())
    if form is None:
        raise BadInput(
            f"{out} does not say which format to write; end its name with {', '.join(SUFFIXES)}"
        )
    return form


def mux_command(
    out: Path,
    form: str,
    sound_inputs: Sequence[Arguments],
    sounds: Sequence[MediaFiles | SourceSound],
    texts: Sequence[TextFile],
    *,
    hvc1: bool = False,
    seconds: Fraction | None = None,
) -> Command:
    """Build the ffmpeg call that joins the video on stdin with sound and subtitles.

    Every track of a package begins at 0, and ffmpeg puts the first time of each input there.
    """
    inputs: Arguments = ["-f", "mp4", "-i", "pipe:0"]
    maps: Arguments = ["-map", "0:v:0"]
    for number, (one, sound) in enumerate(zip(sound_inputs, sounds, strict=True), 1):
        inputs += one
        maps += ["-map", f"{number}:{sound.stream if isinstance(sound, SourceSound) else 'a:0'}"]
    for number, text in enumerate(texts, 1 + len(sounds)):
        inputs += ["-f", "webvtt", "-i", text.path]
        maps += ["-map", f"{number}:s:0"]
    named = [
        *(part for number, sound in enumerate(sounds) for part in _named("a", number, sound)),
        *(part for number, text in enumerate(texts) for part in _named("s", number, text)),
    ]
    return Command.of([
        *_QUIET, *inputs, *maps, "-map_metadata", -1, "-c", "copy", "-c:s", _TEXT_CODEC[form],
        *(("-tag:v", "hvc1") if hvc1 and form == "mp4" else ()),
        *named,
        *(as_arguments(_MP4_FLAGS) if form == "mp4" else ()),
        *(("-t", f"{float(seconds):.6f}") if seconds is not None else ()),
        "-f", form, out,
    ])  # fmt: skip


def _source_input(sound: SourceSound) -> Arguments:
    """Return the options of a source as an input that begins with the title.

    ffmpeg puts the first time of an input at 0, whatever stream it is of.
    """
    with av.open(sound.path, "r", options=dict(SOURCE_OPTIONS)) as container:
        start = Fraction(container.start_time or 0, av.time_base)
    offset = float(start - sound.start_seconds)
    return ["-itsoffset", f"{offset:.6f}", *as_arguments(SOURCE_OPTIONS), "-i", sound.path]


def _named(kind: str, number: int, track: MediaFiles | SourceSound | TextFile) -> list[str]:
    """Return the options that give a track of the file its language, label and marks."""
    stream = f"-metadata:s:{kind}:{number}"
    forced = isinstance(track, TextFile) and track.forced
    marks = [*(["default"] if track.default else []), *(["forced"] if forced else [])]
    named = [stream, f"language={_language(track.language)}"]
    if track.label:
        named += [stream, f"title={track.label}", stream, f"handler_name={track.label}"]
    return [*named, f"-disposition:{kind}:{number}", "+".join(marks) or "0"]


def check_progressive(
    out: Path,
    frame_rate: Fraction,
    frame_hashes: Sequence[str],
    sounds: Sequence[MediaFiles],
    texts: int,
    *,
    pixel_format: str = "yuv420p",
) -> Progressive:
    """Read a progressive file back and compare it with what the package holds.

    Raises:
        VerificationFailed: a frame differs or is at another time than n / ``frame_rate``, or sound
            or subtitles are missing or differ.
    """
    decoded = _output([*_QUIET, "-threads", 1, "-i", out, "-map", "0:v:0",
                       *as_arguments(framehash.hash_output_options(pixel_format)), "pipe:1"],
                      f"{out} does not decode")  # fmt: skip
    try:
        hashes, times = framehash.parse(decoded), framehash.times(decoded)
    except FrameMismatch as error:
        raise VerificationFailed(f"{out} does not decode ({error.message})") from error
    if len(hashes) != len(frame_hashes):
        raise VerificationFailed(f"{out} has {len(hashes)} frames instead of {len(frame_hashes)}")
    for number, (got, expected) in enumerate(zip(hashes, frame_hashes, strict=True)):
        if got != expected:
            raise VerificationFailed(f"frame {number} of {out} is not the one that was scored")
    # Matroska counts milliseconds.
    tolerance = Fraction(1, 1000) if format_of(out) == "matroska" else Fraction(1, 90_000)
    for number, seconds in enumerate(times):
        if abs(seconds - number / frame_rate) > tolerance:
            raise VerificationFailed(
                f"frame {number} of {out} is shown at {float(seconds):.4f} s instead of "
                f"{float(number / frame_rate):.4f} s"
            )
    for number, sound in enumerate(sounds):
        _check_sound(out, number, sound)
    for number in range(texts):
        _output([*_QUIET, "-i", out, "-map", f"0:s:{number}", "-f", "webvtt", "pipe:1"],
                f"subtitles {number} are missing from {out}")  # fmt: skip
    return Progressive(out.stat().st_size, len(hashes), len(sounds), texts)


def _check_sound(out: Path, number: int, track: MediaFiles) -> None:
    """Check that a track of sound begins with the video and decodes to what the package's does.

    Containers say differently where the last frame of AAC ends, so the last tenth of a second may
    be shorter or missing.
    """
    failed = f"the sound of {out} does not decode"
    written = _output([*_QUIET, "-i", out, "-map", f"0:a:{number}", *_SOUND_HASHES], failed)
    decode = [*_QUIET, "-f", "mp4", "-i", "pipe:0", "-map", "0:a:0", *_SOUND_HASHES]
    try:
        hashes, times = framehash.parse(written), framehash.times(written)
        expected = framehash.parse(_output(decode, failed, track))
    except FrameMismatch as error:
        raise VerificationFailed(f"{failed} ({error.message})") from error
    begins = float(times[0]) if times else 0.0
    if abs(begins) > _SOUND_TOLERANCE_SECONDS:
        raise VerificationFailed(
            f"sound track {number} of {out} begins at {begins:.4f} s, not with the video"
        )
    whole = min(len(hashes), len(expected)) - 1
    if not hashes or hashes[:whole] != expected[:whole] or abs(len(hashes) - len(expected)) > 1:
        raise VerificationFailed(f"sound track {number} of {out} is not the package's")


def _output(
    arguments: Sequence[str | Path | int], failed: str, track: MediaFiles | None = None
) -> bytes:
    command = Command.of(arguments)
    try:
        return run(command, stdin=track.chunks() if track is not None else None).stdout
    except ToolFailed as error:
        raise VerificationFailed(f"{failed} ({error.message})", **error.context) from error


def _is_hevc(init: Path) -> bool:
    try:
        content = init.read_bytes()
        return mp4.codec_configuration(content).codecs.startswith(("hvc1", "hev1"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VerificationFailed(
            f"{init} cannot be read ({reason}); make the package again"
        ) from error


def _language(tag: str) -> str:
    """Return a language as both formats have it: three letters, ``und`` where it is unknown."""
    try:
        return langcodes.get(tag).to_alpha3() if tag else "und"
    except LookupError:
        return "und"


def _media(directory: Path, kind: str) -> list[readback.Variant]:
    master = _parsed(directory / "master.m3u8", readback.parse_master)
    return [one for one in master.media if one.attributes.get("TYPE") == kind]


def _parsed(path: Path, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VerificationFailed(
            f"{path} cannot be read ({reason}); make the package again"
        ) from error
