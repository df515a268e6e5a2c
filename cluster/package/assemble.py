"""Write the media of a package, describe its rungs, and verify both against what was scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster.stages.encodes import MeasuredEncode
from cluster.stages.title import Title
from cluster.store import Store
from encoder.errors import ToolFailed, VerificationFailed
from encoder.media import Request
from encoder.package import layout
from encoder.package.cue_check import ExpectedCue
from encoder.package.verify import ExpectedSegment, VerifyReport, verify_package
from encoder.package.verify_sound import ExpectedSound
from encoder.package.write import write_package
from encoder.recipes import Recipe, by_name
from ladder.document import CueFacts, Quality, Rung, Segment, Sound
from vmaf.pool import pool_scores

FRAME_HASHES = "frames.hash"
"""Name of the file beside each rung's media with 16 bytes per frame: the hash of the frame as it
was decoded when the rung's segments were scored."""


@dataclass(frozen=True, slots=True)
class ChosenRung:
    """A rung of the package, with one measured encode per shot."""

    name: str
    """Name of the rung, such as ``v3-360p``."""
    recipe: Recipe
    """Recipe of all encodes of the rung."""
    slope: float | None
    """Slope at which the shots were allocated, in quality-frames per bit."""
    predicted_quality: float | None
    """Mean quality predicted before anything was measured; None where nothing was predicted."""
    encodes: tuple[MeasuredEncode, ...]
    """Encodes of the rung, in order of shots."""

    @property
    def requests(self) -> list[Request]:
        """Encodes of the rung, in order of shots."""
        return [(shot, encode.point) for shot, encode in enumerate(self.encodes)]


def rung_names(heights: Sequence[int], codec: str | None = None) -> list[str]:
    """Return names that are unique and readable in a player's menu, such as ``v1-234p``.

    Args:
        heights: height of each rung, lowest rate first.
        codec: codec of the rungs, which their names then begin with (``x264-v1-234p``); None where
            the package has no rungs of another codec.
    """
    prefix = f"{codec}-" if codec else ""
    return [f"{prefix}v{number}-{height}p" for number, height in enumerate(heights, 1)]


def write_media(
    title: Title,
    rungs: Sequence[ChosenRung],
    audio: Sequence[layout.AudioTrack],
    subtitles: Sequence[layout.SubtitleTrack],
    store: Store,
    directory: Path,
    thumbnails: layout.Thumbnails | None = None,
) -> layout.WrittenPackage:
    """Write media, playlists and frame hashes into a folder.

    Args:
        title: title of the package.
        rungs: rungs of the package.
        audio: audio tracks; the first plays by default.
        subtitles: subtitle tracks.
        store: store that holds the encodes.
        directory: folder to write to.
        thumbnails: sheets of thumbnails that the folder will hold.
    """
    with store.scratch() as scratch:
        store.preload(blobs=[encode.media for rung in rungs for encode in rung.encodes])
        package = layout.TitlePackage(
            frame_rate=title.reference.frame_rate,
            shots=tuple((shot.start, shot.end) for shot in title.shots),
            renditions=tuple(_rendition(rung, store, scratch) for rung in rungs),
            audio=audio[0] if audio else None,
            more_audio=tuple(audio[1:]),
            subtitles=tuple(subtitles),
            colour=title.reference.colour,
            cues=title.cues,
            thumbnails=thumbnails,
        )
        written = write_package(package, directory)
        for rung, track in zip(rungs, written.video, strict=True):
            hashes = b"".join(encode.frame_hashes for encode in rung.encodes)
            (directory / track.directory / FRAME_HASHES).write_bytes(hashes)
        return written


def _rendition(rung: ChosenRung, store: Store, scratch: Path) -> layout.Rendition:
    """Return a rung for the writer; its media stay in the store's cache as long as ``scratch``."""
    return layout.Rendition(
        name=rung.name,
        init=store.path(rung.encodes[0].init).read_bytes(),
        segments=tuple(
            layout.VideoSegment(
                start_frame=encode.shot.start,
                end_frame=encode.shot.end,
                media=store.keep(encode.media, scratch),
                size=encode.num_bytes,
                sha256=encode.media.sha256,
                configuration=encode.codec_sha256,
            )
            for encode in rung.encodes
        ),
    )


def verify_directory(
    directory: Path,
    rungs: Sequence[Rung],
    frame_rate: Fraction,
    sound: Sequence[Sound] | None = None,
    cues: Sequence[CueFacts] | None = None,
) -> VerifyReport:
    """Decode a package and compare every frame with the frame that was scored, the tracks of sound
    and the cues with what was asked for.

    Raises:
        VerificationFailed: the package is not what was measured.
        ToolFailed: ffmpeg was killed, so the package may be right or wrong.
    """
    expected = {rung.name: expected_segments(directory, rung) for rung in rungs}
    formats = {
        rung.name: by_name(rung.recipe).pixel_format for rung in rungs if rung.recipe is not None
    }
    try:
        return verify_package(
            directory,
            frame_rate,
            expected,
            pixel_formats=formats,
            sounds=None if sound is None else [_expected_sound(one) for one in sound],
            cues=[_expected_cue(cue, frame_rate) for cue in cues or ()],
        )
    except VerificationFailed as error:
        if error.context.get("returncode", 0) < 0:
            raise ToolFailed(
                f"the package was not verified: {error.message}", **error.context
            ) from error
        raise


def _expected_cue(cue: CueFacts, frame_rate: Fraction) -> ExpectedCue:
    frames = cue.end_frame - cue.start_frame
    return ExpectedCue(cue.id, cue.start_frame / frame_rate, frames / frame_rate)


def _expected_sound(sound: Sound) -> ExpectedSound:
    loudness = sound.loudness
    return ExpectedSound(
        name=sound.name,
        codecs=sound.codecs,
        channels=sound.channels,
        bit_rate=sound.bitrate,
        language=sound.language or "",
        integrated_lufs=loudness.integrated if loudness else None,
    )


def expected_segments(directory: Path, rung: Rung) -> list[ExpectedSegment]:
    """Return what the segments of a rung have to hold and decode to.

    Raises:
        VerificationFailed: the hashes of its frames are missing or damaged.
    """
    folder = Path(rung.init_uri).parent
    try:
        packed = (directory / folder / FRAME_HASHES).read_bytes()
    except OSError as error:
        raise VerificationFailed(
            f"{folder / FRAME_HASHES} cannot be read ({error.strerror}); make the package again"
        ) from error
    if len(packed) != 16 * rung.segments[-1].end_frame:
        raise VerificationFailed(
            f"{folder / FRAME_HASHES} does not hold one hash per frame; make the package again"
        )
    hashes = [packed[at : at + 16].hex() for at in range(0, len(packed), 16)]
    return [
        ExpectedSegment(
            start_frame=segment.start_frame,
            end_frame=segment.end_frame,
            frame_hashes=tuple(hashes[segment.start_frame : segment.end_frame]),
            sha256=segment.sha256,
        )
        for segment in rung.segments
    ]


def document_rungs(rungs: Sequence[ChosenRung], written: layout.WrittenPackage) -> list[Rung]:
    """Return the rungs as ``ladder.json`` has them."""
    return [
        Rung(
            name=rung.name,
            codec=rung.recipe.codec,
            recipe=rung.recipe.name,
            codecs=track.codecs,
            width=track.width,
            height=track.height,
            bitrate=round(track.average_bitrate),
            peak_bitrate=round(track.peak_bitrate(written.target_duration)),
            slope=rung.slope,
            quality={
                model: encodes_quality(rung.encodes, model) for model in rung.encodes[0].scores
            },
            predicted_quality=rung.predicted_quality,
            init_uri=track.init_uri,
            segments=[
                Segment(
                    shot=number,
                    start_frame=encode.shot.start,
                    end_frame=encode.shot.end,
                    width=encode.point.width,
                    height=encode.point.height,
                    crf=encode.point.crf,
                    bytes=segment.size,
                    uri=segment.uri,
                    sha256=segment.sha256,
                    quality={
                        model: round(encode.mean_quality(model), 4) for model in encode.scores
                    },
                )
                for number, (encode, segment) in enumerate(
                    zip(rung.encodes, track.segments, strict=True)
                )
            ],
        )
        for rung, track in zip(rungs, written.video, strict=True)
    ]


def encodes_quality(encodes: Sequence[MeasuredEncode], model: str) -> Quality:
    """Return the quality of a rung by one model, pooled over the frames of all its encodes."""
    return pooled_quality([score for encode in encodes for score in encode.scores[model]])


def pooled_quality(scores: Sequence[float]) -> Quality:
    """Return the quality pooled over the scores of a title's frames."""
    return Quality(**pool_scores(scores).as_dict())
