"""The first pass over a long title, in sections: each is decoded and analysed by a task of its own.

What a section gives (:class:`PassRows`) is kept in the store when it ends, so that a pass that was
killed goes on, and all workers take part. Joined, the sections are to the bit what one decode of
the whole title gives, on workers whose processors give the same bits. Where that cannot be relied
on, there is nothing to join, and the title is read in one pass: a section did not decode or was
damaged, or the frames around a boundary are not the same from both sides.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from cluster import events
from cluster.execution.executor import Executor
from cluster.execution.tasks import Task
from cluster.stages.quarantine import confirm_when_due, title_store
from cluster.stages.stage import Made, publish
from cluster.stages.title import TitleSource
from cluster.stages.title_record import load_title, store_title
from cluster.store import Record, Store, open_store
from cluster.store.keys import key
from encoder.analysis.damage import DamageCounter, PictureDamage
from encoder.analysis.features import FEATURES_VERSION, MEASURES, FeatureExtractor
from encoder.analysis.frames import Seen, SmallFrame, feed, small_frames
from encoder.analysis.sections import (
    SECTION_SECONDS,
    BoundaryDigests,
    Section,
    keyframe_numbers,
    plan_sections,
)
from encoder.analysis.shots import CONTEXT_FRAMES, CutDetector, Measures
from encoder.arrays import Float32, Int64, UInt8
from encoder.errors import SourceChanged, SourceUnusable
from encoder.source.reference import ReferenceSource
from encoder.source.stamp import Stamp
from recommender.artwork.faces import FACES_VERSION, models_sha256
from recommender.artwork.sampling import SAMPLING_VERSION, StillSampler
from recommender.artwork.scrub import SCRUB_VERSION, ScrubSampler
from recommender.artwork.stills import Stills

SECTIONS_VERSION = 1
"""Version of the stage in its keys: raise it when a section would be read or kept otherwise. The
versions of what is measured are in the keys too."""

ANALYSERS = ("av", "numpy", "opencv-python", "scenedetect")
"""Distributions whose versions can change what an analysis finds."""


@dataclass(frozen=True, slots=True, eq=False)
class PassRows:
    """What a pass over frames measures of them, before the title's shots are known."""

    measures: Measures
    """What cuts are found by, a row for each frame."""
    numbers: Int64
    """Frames whose features are measured, ascending."""
    rows: Float32
    """Their measures, (measured frames, measures)."""
    stills: Stills
    tiles: UInt8
    """Thumbnails of the scrub track, (thumbnails, height, width, 3)."""
    cpu_seconds: float = 0.0

    @classmethod
    def joined(cls, parts: Sequence[PassRows]) -> PassRows:
        """Return the rows of consecutive sections as those of the whole."""
        return cls(
            measures=Measures.joined([part.measures for part in parts]),
            numbers=np.concatenate([part.numbers for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            stills=Stills.joined([part.stills for part in parts]),
            tiles=np.concatenate([part.tiles for part in parts if len(part.tiles)]),
            cpu_seconds=sum(part.cpu_seconds for part in parts),
        )

    def to_bytes(self) -> bytes:
        """Return the rows as a compressed file of arrays."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {
            f"cut_{each.name}": getattr(self.measures, each.name) for each in fields(Measures)
        }
        arrays |= {f"still_{name}": array for name, array in self.stills.arrays().items()}
        arrays |= {"numbers": self.numbers, "rows": self.rows, "tiles": self.tiles}
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def of_bytes(cls, content: bytes, cpu_seconds: float) -> PassRows:
        """Restore what :meth:`to_bytes` returned."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.startswith("still_")]
            return cls(
                Measures(**{each.name: arrays[f"cut_{each.name}"] for each in fields(Measures)}),
                arrays["numbers"],
                arrays["rows"],
                Stills.of_arrays({name.removeprefix("still_"): arrays[name] for name in names}),
                arrays["tiles"],
                cpu_seconds,
            )


@dataclass(frozen=True, slots=True)
class SectionWork:
    """A section as a task: small, whatever the title's length."""

    store: str
    """Folder or URL of the store."""
    title: str
    """Key of the title's description, see :mod:`cluster.stages.title_record`."""
    source: str
    """Path of the source."""
    section: Section
    threads: int
    """Threads of the decoder."""
    stamp: Stamp | None
    watched: str


def sections_of(reference: ReferenceSource) -> tuple[Section, ...]:
    """Return the sections of a title, only one where it is short or has few keyframes."""
    sampler = StillSampler.of(reference)
    return plan_sections(
        keyframe_numbers(reference),
        reference.frames,
        max(1, int(SECTION_SECONDS * reference.frame_rate)),
        context_of(sampler),
        sampler.frames_per_still,
    )


def section_key(source: TitleSource, section: Section) -> str:
    """Return the store key of a section's rows."""
    return key(
        "section",
        SECTIONS_VERSION,
        source=source.sha256,
        reference=source.reference.graph_id,
        tools={name: version(name) for name in ANALYSERS},
        frames=(section.start, section.end),
        read=(section.first, section.stop),
        measures=(FEATURES_VERSION, SAMPLING_VERSION, SCRUB_VERSION, FACES_VERSION),
        faces=models_sha256(),
    )


def analyse_sections(
    source: TitleSource, store: Store, executor: Executor, on_event: events.Listener
) -> None:
    """Analyse the sections of a title that the store lacks; a title of one section has none.

    What keeps a section from being used is said, and left to the pass over the whole title.
    """
    sections = sections_of(source.reference)
    frames = source.reference.frames
    if len(sections) == 1:
        on_event(events.StagePlanned("shots", frames, unit="frames"))
        if frames > 2 * SECTION_SECONDS * source.reference.frame_rate:
            on_event(events.Warned(_one_pass("it has too few keyframes to be read in sections")))
        return
    missing = [each for each in sections if store.get(section_key(source, each)) is None]
    cached = done = frames - sum(each.frames for each in missing)
    on_event(events.StagePlanned("shots", frames, cached, unit="frames"))
    failed = ""
    for outcome in executor.run(_tasks(source, store, executor, missing)):
        if isinstance(outcome.error, SourceUnusable) and not isinstance(
            outcome.error, SourceChanged
        ):
            failed = f"a section of it cannot be read from a keyframe ({outcome.error.message})"
            break
        if outcome.error is not None:
            raise outcome.error
        done += outcome.result
        on_event(events.StageProgress("shots", min(done, frames - 1), frames, cached))
        confirm_when_due(store)
    why = failed or _inseparable(source, store, sections)
    if why:
        on_event(events.Warned(_one_pass(why)))


def joined_sections(source: TitleSource, store: Store) -> PassRows | None:
    """Return the rows of a title whose sections are all in the store and go together, else None."""
    sections = sections_of(source.reference)
    if len(sections) == 1 or _inseparable(source, store, sections):
        return None
    records = [store.get(section_key(source, section)) for section in sections]
    return PassRows.joined([_rows(record, store) for record in records if record is not None])


def analyse_section(work: SectionWork) -> int:
    """Analyse a section unless the store has it; return its frames. Runs on any worker.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    source = load_title(work.store, work.title, work.source)
    source = replace(source, stamp=work.stamp, watched=work.watched)
    store, section = title_store(open_store(work.store), source), work.section
    identity = section_key(source, section)
    with store.claim(identity):
        if store.get(identity) is None:
            publish(
                store,
                identity,
                _made(measure_section(source.reference, section, work.threads)),
                stage="section",
                version=SECTIONS_VERSION,
                title=source.id,
            )
    return section.frames


def _tasks(
    source: TitleSource, store: Store, executor: Executor, sections: Sequence[Section]
) -> list[Task]:
    if not sections:
        return []
    title = store_title(source, store)
    threads = 2 if executor.slots == 1 else 1
    return [
        Task(
            id=str(section.start),
            function=analyse_section,
            arguments=(
                SectionWork(
                    store.place,
                    title,
                    source.reference.path,
                    section,
                    threads,
                    source.stamp,
                    source.watched,
                ),
            ),
            # The longest go first, and of equal ones the first.
            cost=section.frames - section.start / source.reference.frames,
            label=f"analysis of frames {section.start} to {section.end}",
        )
        for section in sections
    ]


class _Tiles:
    """Analyser that keeps the thumbnails of a section."""

    def __init__(self, scrub: ScrubSampler, section: Section) -> None:
        self._scrub = scrub
        self._section = section
        self.tiles: list[UInt8] = []

    def push(self, frame: SmallFrame) -> None:
        if self._section.start <= frame.number < self._section.end:
            tile = self._scrub.thumbnail(frame)
            if tile is not None:
                self.tiles.append(tile)


def one_pass(reference: ReferenceSource, threads: int = 2) -> tuple[PassRows, PictureDamage]:
    """Decode and analyse a whole title at once; return its rows, and the damage that showed.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    whole = Section(0, reference.frames, 0, reference.frames)
    measured = measure_section(reference, whole, threads)
    return measured.rows, measured.damage


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredSection:
    """A section as it was measured, and what shows whether it goes with its neighbours."""

    rows: PassRows
    damage: PictureDamage
    head: str
    """Digest of the frames around its start."""
    tail: str
    """Digest of the frames around its end."""
    seen: Seen


def measure_section(reference: ReferenceSource, section: Section, threads: int) -> MeasuredSection:
    """Decode and analyse a section.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    before = time.process_time()
    detector, extractor = CutDetector(reference.frame_rate), FeatureExtractor.of(reference)
    sampler = StillSampler.of(reference)
    tiles = _Tiles(ScrubSampler.of(reference), section)
    digests = BoundaryDigests(
        section,
        context_of(sampler),
        full_range=reference.info.color_range == "full",
        interlaced=reference.info.interlaced,
    )
    counter, seen = DamageCounter(), Seen()
    whole = section.frames == reference.frames
    span = None if whole else (section.first, section.stop)
    frames = small_frames(reference, threads, counter, span, seen)
    feed(frames, detector, extractor, sampler, tiles, *([] if whole else [digests]))
    numbers, rows = extractor.measured()
    own = (section.start <= numbers) & (numbers < section.end)
    found = PassRows(
        measures=detector.measures().between(
            section.start - section.first, section.end - section.first
        ),
        numbers=numbers[own],
        rows=rows[own].reshape(-1, len(MEASURES)),
        stills=sampler.stills().between(section.start, section.end),
        tiles=np.array(tiles.tiles, np.uint8),
        cpu_seconds=time.process_time() - before,
    )
    return MeasuredSection(found, counter.found, digests.head, digests.tail, seen)


def _made(measured: MeasuredSection) -> Made:
    seen = measured.seen
    return Made(
        {
            "head": measured.head,
            "tail": measured.tail,
            "stored": [*(seen.stored or ()), str(seen.aspect)],
            "damaged": measured.damage != PictureDamage(),
        },
        {"rows": measured.rows.to_bytes()},
        {"other": measured.rows.cpu_seconds},
    )


def _rows(record: Record, store: Store) -> PassRows:
    content = store.path(record.blobs["rows"]).read_bytes()
    return PassRows.of_bytes(content, record.cpu_seconds.get("other", 0.0))


def _inseparable(source: TitleSource, store: Store, sections: Sequence[Section]) -> str:
    """Return why the sections of a title do not make one pass; nothing where they do."""
    before: Record | None = None
    for section in sections:
        record = store.get(section_key(source, section))
        if record is None:
            return "a section of it is missing"
        if record.value["damaged"]:
            return "its pictures are damaged, and what decoders conceal depends on where they begin"
        if before is not None and before.value["tail"] != record.value["head"]:
            return f"decoding from a keyframe gives other pictures at frame {section.start}"
        if before is not None and before.value["stored"] != record.value["stored"]:
            return f"its pictures are stored otherwise from about frame {section.start} on"
        before = record
    return ""


def _one_pass(why: str) -> str:
    return f"the source is analysed in one pass, on one core and anew after an interruption: {why}"


def context_of(sampler: StillSampler) -> int:
    """Return the frames on each side of a section that its rows depend on."""
    return max(sampler.context_frames, CONTEXT_FRAMES)
