"""Records of a title that were made of another film: finding them, and removing what is in doubt.

Releases before the quarantine (:mod:`cluster.stages.quarantine`) stored what was made of a file
that had replaced the source under the digest of the source. Such records are intact, so only
their content tells: the pictures of each encode are compared with the source's own frames, or,
where the source is not given, with the thumbnails of the scrub track, which another stage made.
Where one
record is wrong, all records of the title go, because a shot list, a score or a sound that was made
of the wrong film cannot be told by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av.error
import cv2
import numpy as np

from cluster.stages.analysis import shots_key
from cluster.stages.title import TitleSource
from cluster.store import Record, Store
from cluster.store.garbage import Flaw
from cluster.store.manifests import list_runs
from cluster.store.quarantined import FOLDER
from cluster.store.records import Entry, parse_record
from encoder import likeness, mp4
from encoder.analysis.frames import SmallFrame, feed, small_frames
from encoder.analysis.shots import CutDetector, plan_shots
from encoder.arrays import UInt8
from recommender.artwork import scrub

_UNTITLED = ("subtitles", "augment")
"""Stages whose records do not name their title in old stores; they are cheap to make again."""
_THUMBNAIL_LIMIT = 16.0
"""Mean difference of two thumbnails in levels: JPEG, size and matrix make up to 6."""


@dataclass(frozen=True, slots=True)
class _Found:
    entry: Entry
    record: Record


class _Witness(Protocol):
    """Knows what a title shows."""

    def contradicts(self, found: _Found, store: Store) -> str:
        """Return how a record contradicts the title; empty where it does not."""


def check_provenance(
    store: Store, sources: Sequence[TitleSource] = (), *, repair: bool = False
) -> Iterator[Flaw]:
    """Yield the records whose content is not that of their title.

    Args:
        store: Store to look at; its entries are undamaged.
        sources: Sources that are at hand. Titles of other sources are compared with themselves.
        repair: Remove all records of a title that has such a record.

    Raises:
        SourceUnusable: a source does not decode.
    """
    by_title: dict[str, list[_Found]] = {}
    for folder in (FOLDER, "records"):
        for entry in store.entries(folder):
            record = parse_record(store.read_entry(entry.name), entry.digest)
            if record is not None:
                by_title.setdefault(record.title, []).append(_Found(entry, record))
    outs: dict[str, list[str]] = {}
    for run in list_runs(store):
        if run.state == "finished":
            outs.setdefault(run.title, []).append(run.out)
    at_hand = {source.id: source for source in sources}
    for title, records in by_title.items():
        if not title:
            continue
        witness = _witness(at_hand.get(title), records, store)
        flaws = [
            Flaw(found.entry.name, f"{found.record.stage} of title {title}: {what}")
            for found in records
            if witness is not None and (what := witness.contradicts(found, store))
        ]
        yield from flaws
        if flaws and repair:
            doubtful = [found for found in by_title.get("", ()) if found.record.stage in _UNTITLED]
            for found in [*records, *doubtful]:
                store.remove_entry(found.entry.name)
            made = ", ".join(dict.fromkeys(outs.get(title, ())))
            yield Flaw(
                f"title {title}",
                f"all {len(records)} records are removed, since more of them may be wrong"
                + (f"; make the packages again that were made from them: {made}" if made else ""),
            )


def _witness(
    source: TitleSource | None, records: Sequence[_Found], store: Store
) -> _Witness | None:
    if source is not None:
        return _SourceWitness(source)
    tracks = [each for each in records if each.record.stage == "stills"]
    frames = [
        each.record.value[-1][1]
        for each in records
        if each.record.stage == "shots" and each.record.value
    ]
    if not tracks or not frames:
        return None
    return _Thumbnails(tracks, max(frames), store)


class _SourceWitness:
    """The source itself, decoded once."""

    def __init__(self, source: TitleSource) -> None:
        reference = self._reference = source.reference
        self._shots_key = shots_key(source)
        self._grids = np.empty((reference.frames, likeness.ROWS, likeness.COLUMNS), np.uint8)
        detector = CutDetector(reference.frame_rate)
        feed(small_frames(reference), detector, self)
        planned = plan_shots(detector.cuts(), reference.frames, reference.frame_rate)
        self._shots = [[shot.start, shot.end, list(shot.cuts)] for shot in planned]
        seconds = float(reference.frames / reference.frame_rate)
        held = reference.timeline.head / reference.frame_rate
        stream = reference.info.stream_index
        _, levels = likeness.source_levels(reference.path, stream, seconds, held)
        self._sounds = list(levels.values())
        self._seconds = seconds

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame of the source."""
        self._grids[frame.number] = likeness.grid(frame.luma)

    def contradicts(self, found: _Found, store: Store) -> str:
        record = found.record
        if record.stage == "shots" and record.key == self._shots_key:
            return "" if record.value == self._shots else "its shots are not those of the source"
        if record.stage in ("encode", "baseline"):
            differences = []
            for time, picture in _pictures(record, store):
                frame = round(time * self._reference.frame_rate)
                if 0 <= frame < len(self._grids):
                    shown = likeness.grid(likeness.luma(picture))
                    differences.append(likeness.difference(shown, self._grids[frame]))
            if differences and np.mean(differences) > likeness.PICTURE_LIMIT:
                return (
                    f"its pictures differ from the source's by {np.mean(differences):.0f} of 255 "
                    "levels on the mean"
                )
        if record.stage == "audio" and "audio" in record.blobs:
            content = store.path(record.blobs["audio"]).read_bytes()
            track = likeness.track_levels(content, self._seconds, "audio")
            if not likeness.sounds_like(track, self._sounds):
                return "it does not sound like any stream of the source"
        return ""


class _Thumbnails:
    """The scrub tracks of a title."""

    def __init__(self, tracks: Sequence[_Found], frames: int, store: Store) -> None:
        self._tracks = [_thumbnails(found.record, frames, store) for found in tracks]

    def contradicts(self, found: _Found, store: Store) -> str:
        if found.record.stage not in ("encode", "baseline"):
            return ""
        differences: list[list[float]] = [[] for _ in self._tracks]
        rate = _rate(found.record, store)
        if rate is None:
            return ""
        for time, picture in _pictures(found.record, store):
            for track, found_differences in zip(self._tracks, differences, strict=True):
                thumbnail = track.get(round(time * rate))
                if thumbnail is not None:
                    shown = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
                    found_differences.append(likeness.difference(_small(shown), _small(thumbnail)))
        means = [float(np.mean(each)) for each in differences if each]
        if means and min(means) > _THUMBNAIL_LIMIT:
            return (
                f"its pictures differ from the thumbnails of its title by {min(means):.0f} of 255 "
                "levels on the mean"
            )
        return ""


def _thumbnails(record: Record, frames: int, store: Store) -> Mapping[int, UInt8]:
    """Return the thumbnails of a scrub track by frame number."""
    facts = record.value["scrub"]
    step, width, height = facts["step"], facts["width"], facts["height"]
    found: dict[int, UInt8] = {}
    per_sheet = scrub.COLUMNS * scrub.ROWS
    for number, name in enumerate(record.value["sheets"]):
        content = np.frombuffer(store.path(record.blobs[name]).read_bytes(), np.uint8)
        sheet = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)
        for place in range(min(per_sheet, facts["count"] - number * per_sheet)):
            row, column = divmod(place, scrub.COLUMNS)
            frame = min((number * per_sheet + place) * step + step // 2, frames - 1)
            found[frame] = sheet[
                row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
    return found


def _small(picture: UInt8) -> UInt8:
    size = likeness.COLUMNS, likeness.ROWS
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _parts(record: Record, store: Store) -> tuple[bytes, bytes]:
    """Return the init segment and the media of an encode of a shot, or of a whole rung."""
    if record.stage == "baseline":
        return mp4.split_fragmented(store.path(record.blobs["rung"]).read_bytes())
    init, media = (store.path(record.blobs[name]).read_bytes() for name in ("init", "media"))
    return init, media


def _rate(record: Record, store: Store) -> Fraction | None:
    """Return the frame rate of an encode."""
    try:
        init, media = _parts(record, store)
        samples = mp4.sample_table(init, media)
        return Fraction(mp4.track_timescale(init), samples[0].duration)
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def _pictures(record: Record, store: Store) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Yield the pictures of an encode with their times on the title's clock, seconds."""
    try:
        init, media = _parts(record, store)
        samples = mp4.sample_table(init, media)
        times = sorted(Fraction(s.composition_time, mp4.track_timescale(init)) for s in samples)
        yield from zip(times, likeness.segment_pictures(init, media), strict=False)
    except (ValueError, av.error.FFmpegError):
        return
