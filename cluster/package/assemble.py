"""From chosen operating points to a verified package with its documents."""

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
from encoder.package.verify import ExpectedSegment, VerifyReport, verify_package
from encoder.package.write import write_package
from encoder.recipes import Recipe, by_name
from ladder.document import Quality, Rung, Segment
from vmaf.pool import pool_scores

FRAME_HASHES = "frames.hash"
"""Beside each rung's media: 16 bytes per frame, as decoded when its segments were scored."""


@dataclass(frozen=True, slots=True)
class ChosenRung:
    """A rung of the plan: one measured encode per shot."""

    name: str
    recipe: Recipe
    slope: float | None
    predicted_quality: float | None
    encodes: tuple[MeasuredEncode, ...]

    @property
    def requests(self) -> list[Request]:
        """Encodes of the rung, in order of shots."""
        return [(shot, encode.point) for shot, encode in enumerate(self.encodes)]


def rung_names(heights: Sequence[int], codec: str | None = None) -> list[str]:
    """``v1-234p`` and so on, from the lowest rate: unique, and readable in a player's menu.

    Beside rungs of other codecs the codec comes first, ``x264-v1-234p``.
    """
    prefix = f"{codec}-" if codec else ""
    return [f"{prefix}v{number}-{height}p" for number, height in enumerate(heights, 1)]


def write_media(
    title: Title,
    rungs: Sequence[ChosenRung],
    heard: Sequence[layout.AudioTrack],
    read: Sequence[layout.SubtitleTrack],
    store: Store,
    directory: Path,
) -> layout.WrittenPackage:
    """Write media, playlists and frame hashes into ``directory``."""
    with store.scratch() as kept:
        store.warm(blobs=[made.media for rung in rungs for made in rung.encodes])
        package = layout.TitlePackage(
            frame_rate=title.reference.frame_rate,
            shots=tuple((shot.start, shot.end) for shot in title.shots),
            renditions=tuple(
                layout.Rendition(
                    name=rung.name,
                    init=store.path(rung.encodes[0].init).read_bytes(),
                    segments=tuple(
                        layout.VideoSegment(
                            start_frame=made.shot.start,
                            end_frame=made.shot.end,
                            media=store.keep(made.media, kept),
                            size=made.num_bytes,
                            sha256=made.media.sha256,
                            configuration=made.codec_sha256,
                        )
                        for made in rung.encodes
                    ),
                )
                for rung in rungs
            ),
            audio=heard[0] if heard else None,
            more_audio=tuple(heard[1:]),
            subtitles=tuple(read),
        )
        written = write_package(package, directory)
        for rung, on_disk in zip(rungs, written.video, strict=True):
            hashes = b"".join(made.frame_hashes for made in rung.encodes)
            (directory / on_disk.directory / FRAME_HASHES).write_bytes(hashes)
        return written


def verify_directory(directory: Path, rungs: Sequence[Rung], frame_rate: Fraction) -> VerifyReport:
    """Decode a package and compare every frame with those that were scored.

    Raises:
        VerificationFailed: it is not what was measured.
        ToolFailed: ffmpeg was killed, so that nothing can be said.
    """
    expected = {rung.name: _expected(directory, rung) for rung in rungs}
    formats = {
        rung.name: by_name(rung.recipe).pixel_format for rung in rungs if rung.recipe is not None
    }
    try:
        return verify_package(directory, frame_rate, expected, pixel_formats=formats)
    except VerificationFailed as error:
        if error.context.get("returncode", 0) < 0:
            raise ToolFailed(f"not verified: {error.message}", **error.context) from error
        raise


def _expected(directory: Path, rung: Rung) -> list[ExpectedSegment]:
    folder = Path(rung.init_uri).parent
    try:
        packed = (directory / folder / FRAME_HASHES).read_bytes()
    except OSError as error:
        raise VerificationFailed(
            f"{folder / FRAME_HASHES} cannot be read ({error.strerror})"
        ) from error
    if len(packed) != 16 * rung.segments[-1].end_frame:
        raise VerificationFailed(f"{folder / FRAME_HASHES} does not hold one hash a frame")
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
    """The rungs as ``ladder.json`` has them."""
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
                model: Quality(
                    **pool_scores(
                        [score for e in rung.encodes for score in e.scores[model]]
                    ).as_dict()
                )
                for model in rung.encodes[0].scores
            },
            predicted_quality=rung.predicted_quality,
            init_uri=track.init_uri,
            segments=[
                Segment(
                    shot=number,
                    start_frame=made.shot.start,
                    end_frame=made.shot.end,
                    width=made.point.width,
                    height=made.point.height,
                    crf=made.point.crf,
                    bytes=on_disk.size,
                    uri=on_disk.uri,
                    sha256=on_disk.sha256,
                    quality={model: round(made.mean_quality(model), 4) for model in made.scores},
                )
                for number, (made, on_disk) in enumerate(
                    zip(rung.encodes, track.segments, strict=True)
                )
            ],
        )
        for rung, track in zip(rungs, written.video, strict=True)
    ]
