"""From chosen operating points to a verified package with its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster.jobs.setup import Setup
from cluster.stages.encodes import Measured, MeasuredEncode
from cluster.stages.title import Title
from cluster.store import Store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.errors import ToolFailed, VerificationFailed
from encoder.media import Request, Shot
from encoder.package import audio, layout
from encoder.package import subtitles as vtt
from encoder.package.verify import ExpectedSegment, VerifyReport, verify_package
from encoder.package.write import write_package
from encoder.recipes import Recipe, by_name
from encoder.source.probe import AudioStream
from ladder.complexity.prediction import TitlePrediction
from ladder.document import Cell, Measurements, Quality, Rung, Segment, ShotRow
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


def rung_names(heights: Sequence[int], codec: str | None = None) -> list[str]:
    """``v1-234p`` and so on, from the lowest rate: unique, and readable in a player's menu.

    Beside rungs of other codecs the codec comes first, ``x264-v1-234p``.
    """
    prefix = f"{codec}-" if codec else ""
    return [f"{prefix}v{number}-{height}p" for number, height in enumerate(heights, 1)]


def sounds(title: Title, store: Store) -> tuple[layout.AudioTrack, ...]:
    """The title's sound, each track encoded once and cut at the title's shots.

    The first audible stream of the source is what plays by default. Every stream becomes stereo;
    one of six channels or more is also kept as 5.1.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    streams = title.reference.info.audio
    wanted = [(stream, False) for stream in streams]
    wanted += [(s, True) for s in streams if s.channels >= audio.SURROUND_CHANNELS]
    made = [_sound(title, store, stream, surround) for stream, surround in wanted]
    return tuple(track for track in made if track is not None)


def _sound(
    title: Title, store: Store, stream: AudioStream, surround: bool
) -> layout.AudioTrack | None:
    """One track; None where there is nothing to hear."""
    reference = title.reference
    bit_rate = audio.SURROUND_BIT_RATE if surround else audio.BIT_RATE
    identity = key(
        "audio",
        audio.STAGE_VERSION,
        source=title.source.sha256,
        stream=stream.index,
        start=reference.index.start_seconds,
        duration=reference.timeline.duration_seconds,
        channels=stream.channels,
        bit_rate=bit_rate,
        tool=ffmpeg.version(),
        **({"surround": True} if surround else {}),
    )
    with store.claim(identity):
        record = store.get(identity)
        if record is None:
            before = ffmpeg.children_cpu_seconds()
            with store.scratch() as scratch:
                made = audio.encode_audio(
                    Path(reference.path),
                    stream.index,
                    scratch / "audio.mp4",
                    first_video_pts=reference.index.start_seconds,
                    duration=reference.timeline.duration_seconds,
                    channels=stream.channels,
                    bit_rate=bit_rate,
                    surround=surround,
                )
                blobs = {"audio": store.put_blob(made, move=True)} if made else {}
            record = store.publish(
                identity,
                value={"audible": made is not None},
                blobs=blobs,
                cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
                stage="audio",
                version=audio.STAGE_VERSION,
                title=title.id,
            )
    if not record.value["audible"]:
        return None
    return audio.segment_audio(
        store.path(record.blobs["audio"]).read_bytes(), _shot_ends(title), stream.language
    )


def _shot_ends(title: Title) -> list[Fraction]:
    return [shot.end / title.reference.frame_rate for shot in title.shots]


def subtitles(title: Title, store: Store) -> tuple[layout.SubtitleTrack, ...]:
    """The title's subtitles that are text, as WebVTT on its timeline.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    reference = title.reference
    tracks = []
    for stream in reference.info.subtitles:
        if not stream.text:
            continue
        identity = key(
            "subtitles",
            vtt.STAGE_VERSION,
            source=title.source.sha256,
            stream=stream.index,
            tool=ffmpeg.version(),
        )
        with store.claim(identity):
            record = store.get(identity)
            if record is None:
                before = ffmpeg.children_cpu_seconds()
                text = vtt.extract(Path(reference.path), stream.index)
                record = store.publish(
                    identity,
                    value={"text": text},
                    cpu_seconds={"other": ffmpeg.children_cpu_seconds() - before},
                    stage="subtitles",
                    version=vtt.STAGE_VERSION,
                )
        found = vtt.cues(
            record.value["text"],
            reference.index.start_seconds,
            reference.timeline.duration_seconds,
        )
        tracks.append(
            vtt.subtitle_track(
                found,
                _shot_ends(title),
                language=audio.known_language(stream.language),
                forced=stream.forced,
                hearing_impaired=stream.hearing_impaired,
            )
        )
    return tuple(tracks)


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


def verify_directory(directory: Path, rungs: Sequence[Rung], frame_rate: str) -> VerifyReport:
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
        return verify_package(directory, Fraction(frame_rate), expected, pixel_formats=formats)
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


def predicted_quality(
    prediction: TitlePrediction | None, shots: Sequence[Shot], requests: Sequence[Request]
) -> float | None:
    """Mean quality that was expected of a rung's encodes before anything was measured."""
    if prediction is None:
        return None
    expected = [prediction.expected(shot, point) for shot, point in requests]
    frames = [shot.frames for shot in shots]
    total = sum(n * e.quality for n, e in zip(frames, expected, strict=True) if e is not None)
    return round(total / sum(frames), 4)


def measurements(
    title: Title,
    known: Mapping[Request, Measured],
    setups: Sequence[Setup],
    reasons: Mapping[Request, str],
) -> Measurements:
    """All that was measured, as ``measurements.json`` has it."""
    cells = []
    first, by_recipe = setups[0], {setup.recipe: setup for setup in setups}
    for (shot, point), made in sorted(known.items(), key=lambda item: item[0]):
        setup = by_recipe[point.recipe]
        expected = setup.prediction.expected(shot, point) if setup.prediction else None
        cells.append(
            Cell(
                shot=shot,
                width=point.width,
                height=point.height,
                crf=point.crf,
                recipe=point.recipe.name,
                bytes=made.num_bytes,
                quality=round(made.mean_quality[setup.model], 4),
                predicted_bytes=(
                    round(expected.bits_per_frame * title.shots[shot].frames / 8)
                    if expected
                    else None
                ),
                predicted_quality=round(expected.quality, 4) if expected else None,
                reason=reasons.get((shot, point)),
            )
        )
    return Measurements(
        title_id=title.id,
        recipe=first.recipe.name,
        quality_model=first.model,
        weights=first.prediction.model if first.prediction else None,
        shots=[
            ShotRow(start_frame=shot.start, end_frame=shot.end, cuts=list(shot.cuts))
            for shot in title.shots
        ],
        cells=cells,
    )
