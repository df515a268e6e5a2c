"""Records of a title that were made of another film: finding them, and removing what is in doubt.

Releases before the quarantine (:mod:`cluster.stages.quarantine`) stored what was made of a file
that had replaced the source under the digest of the source. Such records are intact, so only
their content tells: the pictures of each encode are compared with the source's own frames, or,
where the source is not given, with the thumbnails of the scrub track, which another stage made.
A record is wrong only where every reading of the source contradicts it
(:mod:`cluster.stages.readings`). Where one record is wrong, all records of the title go, because a
shot list, a score or a sound that was made of the wrong film cannot be told by itself.
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
from cluster.stages.readings import Reading, Readings
from cluster.stages.title import TitleSource
from cluster.store import Record, Store
from cluster.store.garbage import Foreign
from cluster.store.manifests import Manifest
from cluster.store.quarantined import FOLDER
from cluster.store.records import Entry, parse_record
from encoder import likeness, mp4
from encoder.analysis.frames import SmallFrame, feed, small_frames
from encoder.analysis.shots import CutDetector, plan_shots
from encoder.arrays import UInt8
from encoder.errors import BadInput, SourceChanged
from recommender.artwork import scrub

_UNTITLED = ("subtitles", "augment")
"""Stages whose records do not name their title in old stores; they are cheap to make again."""
_THUMBNAIL_LIMIT = 16.0
"""Mean difference of two thumbnails in levels: JPEG, size and matrix make up to 6."""


_JUDGED = ("shots", "encode", "baseline", "audio")
"""Stages whose records tell what they were made of."""


@dataclass(frozen=True, slots=True)
class TitleCheck:
    """What is wrong with the records of a title."""

    title: str
    """First 16 hexadecimal digits of the source's digest."""
    foreign: tuple[Foreign, ...] = ()
    """Entries that do not belong to the title."""
    removed: int = 0
    """Number of records that were removed: with those, all others of the title."""
    note: str = ""
    """What to do about it, or what cannot be judged."""


@dataclass(frozen=True, slots=True)
class _Found:
    entry: Entry
    record: Record


class _Witness(Protocol):
    """Knows what a title shows."""

    def contradicts(self, found: _Found, store: Store) -> str:
        """Return how a record contradicts the title; empty where it does not."""

    def doubt(self, found: _Found) -> str:
        """Return why a record may be right that contradicts the title; empty where it may not."""


def check_provenance(
    store: Store,
    runs: Sequence[Manifest],
    sources: Sequence[Readings] = (),
    *,
    repair: bool = False,
) -> Iterator[TitleCheck]:
    """Yield the titles with records whose content is not that of the title, or may not be.

    Args:
        store: Store to look at; its entries are undamaged.
        runs: Runs that the store remembers.
        sources: Sources that are at hand. Titles of other sources are compared with themselves.
        repair: Remove all records of a title that has a record which is surely wrong.

    Raises:
        SourceUnusable: a source does not decode.
    """
    by_title: dict[str, list[_Found]] = {}
    for folder in (FOLDER, "records"):
        for entry in store.entries(folder):
            record = parse_record(store.read_entry(entry.name), entry.digest)
            if record is not None:
                by_title.setdefault(record.title, []).append(_Found(entry, record))
    at_hand = {source.id: source for source in sources}
    for title, records in by_title.items():
        if not title:
            continue
        made = [run for run in runs if run.title == title]
        witness = _witness(at_hand.get(title), records, made, store)
        wrong: list[Foreign] = []
        doubts: list[str] = []
        for found in records if witness is not None else ():
            assert witness is not None
            if what := witness.contradicts(found, store):
                if doubt := witness.doubt(found):
                    doubts.append(doubt)
                else:
                    said = f"{found.record.stage} of title {title}: {what}"
                    wrong.append(Foreign(found.entry.name, said))
        if wrong and repair:
            doubtful = [found for found in by_title.get("", ()) if found.record.stage in _UNTITLED]
            yield _removed(title, wrong, [*records, *doubtful], made, store)
        elif wrong or doubts:
            yield TitleCheck(title, tuple(wrong), note=_kept(doubts))


def _removed(
    title: str,
    wrong: Sequence[Foreign],
    records: Sequence[_Found],
    runs: Sequence[Manifest],
    store: Store,
) -> TitleCheck:
    for found in records:
        store.remove_entry(found.entry.name)
    store.remove_empty_folders(FOLDER)
    note = f"all {len(records)} records are removed, since more of them may be wrong"
    outs = ", ".join(dict.fromkeys(run.out for run in runs if run.state == "finished"))
    if outs:
        note += f"; make the packages again that were made from them: {outs}"
    return TitleCheck(title, tuple(wrong), len(records), note)


def _kept(doubts: Sequence[str]) -> str:
    if not doubts:
        return ""
    return (
        f"{len(doubts)} records cannot be judged and are kept: {'; '.join(dict.fromkeys(doubts))}"
    )


def _witness(
    source: Readings | None, records: Sequence[_Found], runs: Sequence[Manifest], store: Store
) -> _Witness | None:
    if source is not None:
        layouts = any(run.options.get("audio_layout") for run in runs)
        return _AllReadings(source, layouts)
    tracks = [each for each in records if each.record.stage == "stills"]
    shots = [each for each in records if each.record.stage == "shots" and each.record.value]
    if not tracks or not shots:
        return None
    readings = max(len(shots), len({Reading.of(run) for run in runs}))
    frames = [found.record.value[-1][1] for found in shots]
    return _Thumbnails(tracks, frames, readings > len(tracks), store)


class _AllReadings:
    """The source itself, in every way in which it can be read."""

    def __init__(self, readings: Readings, layouts: bool) -> None:
        self._readings, self._layouts = readings, layouts
        self._known = _Decoded(readings, readings.known())
        self._others = _Decoded(readings, readings.others())

    def contradicts(self, found: _Found, store: Store) -> str:
        if found.record.stage not in _JUDGED:
            return ""
        said = _judged(self._known, found, store)
        if said and found.record.stage != "shots":  # whose key names the reading
            return said if _judged(self._others, found, store) != "" else ""
        return said or ""

    def doubt(self, found: _Found) -> str:
        if found.record.stage == "shots":
            return ""
        if self._readings.refused:
            return f"a run read the source in a way that is refused: {self._readings.refused[0]}"
        if found.record.stage == "audio" and self._layouts:
            return "a run had its own --audio-layout"
        return ""


def _judged(readings: _Decoded, found: _Found, store: Store) -> str | None:
    """Return how a record contradicts all readings, empty where it fits one, None if neither."""
    said = None
    for witness in readings:
        what = witness.contradicts(found, store)
        if what == "":
            return ""
        said = said or what
    return said


class _Decoded:
    """Some readings, each decoded when it is needed."""

    def __init__(self, readings: Readings, sources: Iterator[tuple[Reading, TitleSource]]) -> None:
        self.made: list[_SourceWitness] = []
        self._readings, self._sources = readings, sources

    def __iter__(self) -> Iterator[_SourceWitness]:
        yield from self.made
        for reading, source in self._sources:
            try:
                witness = _SourceWitness(source)
            except SourceChanged:
                raise
            except BadInput as error:
                self._readings.refuse(reading, error)
                continue
            self.made.append(witness)
            yield witness


class _SourceWitness:
    """The source in one reading, decoded once."""

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

    def contradicts(self, found: _Found, store: Store) -> str | None:
        """Return how a record contradicts this reading, empty where it fits, None if neither."""
        record = found.record
        if record.stage == "shots" and record.key == self._shots_key:
            return "" if record.value == self._shots else "its shots are not those of the source"
        if record.stage in ("encode", "baseline"):
            return self._compare_pictures(record, store)
        if record.stage == "audio" and "audio" in record.blobs:
            content = store.path(record.blobs["audio"]).read_bytes()
            track = likeness.track_levels(content, self._seconds, "audio")
            if not likeness.sounds_like(track, self._sounds):
                return "it does not sound like any stream of the source"
            return ""
        return None

    def _compare_pictures(self, record: Record, store: Store) -> str | None:
        differences = []
        for time, picture in _pictures(record, store):
            frame = round(time * self._reference.frame_rate)
            if 0 <= frame < len(self._grids):
                shown = likeness.grid(likeness.luma(picture))
                differences.append(likeness.difference(shown, self._grids[frame]))
        if not differences:
            return None
        # Pictures of two fields that differ (a flash, a cut) are deinterlaced in an encode only.
        interlaced = self._reference.info.interlaced
        typical = likeness.smaller(differences) if interlaced else float(np.mean(differences))
        if typical <= likeness.PICTURE_LIMIT:
            return ""
        return f"its pictures differ from the source's by {typical:.0f} of 255 levels on the mean"


class _Thumbnails:
    """The scrub tracks of a title."""

    def __init__(
        self, tracks: Sequence[_Found], frames: Sequence[int], incomplete: bool, store: Store
    ) -> None:
        self._tracks = [_thumbnails(found.record, frames, store) for found in tracks]
        self._incomplete = incomplete

    def doubt(self, found: _Found) -> str:
        if self._incomplete:
            return "the source was read in more ways than there are thumbnails of; give --source"
        return ""

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
                    shown = likeness.grid(likeness.luma(picture))
                    found_differences.append(likeness.difference(shown, thumbnail))
        means = [likeness.smaller(each) for each in differences if each]
        if means and min(means) > _THUMBNAIL_LIMIT:
            return (
                f"its pictures differ from the thumbnails of its title by {min(means):.0f} of 255 "
                "levels on the mean"
            )
        return ""


def _thumbnails(record: Record, frames: Sequence[int], store: Store) -> Mapping[int, UInt8]:
    """Return the grids of the thumbnails of a scrub track by frame number.

    ``frames`` are the lengths that the title has in its readings.
    """
    facts = record.value["scrub"]
    step, width, height = facts["step"], facts["width"], facts["height"]
    lengths = {each for each in frames if -(-each // step) == facts["count"]}
    found: dict[int, UInt8] = {}
    per_sheet = scrub.COLUMNS * scrub.ROWS
    for number, name in enumerate(record.value["sheets"]):
        content = np.frombuffer(store.path(record.blobs[name]).read_bytes(), np.uint8)
        sheet = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)
        for place in range(min(per_sheet, facts["count"] - number * per_sheet)):
            row, column = divmod(place, scrub.COLUMNS)
            frame = (number * per_sheet + place) * step + step // 2
            if lengths and frame >= min(lengths):
                if len(lengths) > 1:
                    continue
                frame = min(lengths) - 1
            found[frame] = _grid(
                sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
            )
    return found


def _grid(thumbnail: UInt8) -> UInt8:
    """Return the grid of a thumbnail, whose range is full, in limited range."""
    grey = cv2.cvtColor(thumbnail, cv2.COLOR_BGR2GRAY)
    return likeness.grid(np.asarray(16 + grey * (219 / 255), np.uint8))


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
