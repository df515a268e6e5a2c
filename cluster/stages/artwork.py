"""The artwork stage: chooses a title's pool and makes all of its files.

Stills are measured in the analysis pass (:mod:`cluster.stages.analysis`), which also finds faces.
This stage reads the faces of the best stills at full size, chooses among all stills, fetches the
chosen ones at full size, crops and codes them, and keeps everything in the store.
:mod:`cluster.package.artwork_files` copies it into a package.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.stages.analysis import find_stills, shots_key, stills_key
from cluster.stages.quarantine import title_store
from cluster.stages.stage import Made, find_or_make, require
from cluster.stages.title import Title
from cluster.store import Record, Store, open_store
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.arrays import UInt8
from encoder.source.reference import ReferenceSource
from encoder.stills import fetch_frames
from recommender.artwork.build import Files, build_artwork, build_candidate, build_scrub
from recommender.artwork.colour import matrix_of
from recommender.artwork.crops import CROPS_VERSION, Box, picture_area
from recommender.artwork.document import Artwork, ArtworkTitle
from recommender.artwork.faces import FACES_VERSION, models_sha256
from recommender.artwork.looking import LOOKING_VERSION, choose_pool
from recommender.artwork.pool import POOL_VERSION, Pool
from recommender.artwork.portraits import PORTRAITS_VERSION, PortraitReader
from recommender.artwork.scrub import ScrubTrack
from recommender.artwork.stills import Stills
from recommender.artwork.vision import Sight, sight_of

ARTWORK_VERSION: Final = 4
"""Part of the stage's key. Raise it when any file of a pool changes."""

_MAX_BAR_PICTURES = 4


@dataclass(frozen=True, slots=True)
class ArtworkWork:
    """What a worker needs to make a title's pool."""

    title: Title
    store: str
    """Address of the store."""
    embedding: str | None = None
    """``MODULE:FUNCTION`` of what makes the embeddings; None for the classical ones."""
    nudity: bool = False
    """True to score nudity."""

    @property
    def sight(self) -> Sight:
        """What candidates are looked at with beyond what always is.

        Raises:
            BadInput: it is not there.
        """
        return sight_of(self.embedding, self.nudity)


def artwork_key(work: ArtworkWork) -> str:
    """Return the store key of a title's pool and its files."""
    title, seen = work.title, work.sight.identity
    return key(
        "artwork",
        ARTWORK_VERSION,
        stills=stills_key(title.source),
        shots=shots_key(title.source),
        pool=POOL_VERSION,
        crops=CROPS_VERSION,
        faces=(FACES_VERSION, PORTRAITS_VERSION, LOOKING_VERSION, models_sha256()),
        tools={name: version(name) for name in ("numpy", "opencv-python", "pillow")},
        tool=ffmpeg.version(),
        name=title.name,
        **({} if seen is None else {"sight": seen}),
    )


def find_artwork(
    title: Title,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
    *,
    embedding: str | None = None,
    nudity: bool = False,
) -> Record:
    """Return the title's pool, from the store or made on ``executor``.

    ``embedding`` and ``nudity`` are those of :class:`ArtworkWork`.

    Raises:
        BadInput: what makes the embeddings, or scores nudity, is not there.
        ToolFailed, FrameMismatch: the source could not be decoded as planned.
        StoreUnusable: the store cannot be read or written.
    """
    work = ArtworkWork(title, store.place, embedding, nudity)
    on_event(events.StagePlanned("artwork", 1, unit="pools"))
    record = store.get(artwork_key(work))
    if record is None:
        task = Task(id="artwork", function=make_artwork, arguments=(work,), label="artwork")
        # Workers with a remote store may not reach the source, and all of it is needed here.
        running = InlineExecutor() if store.remote else executor
        (outcome,) = running.run([task])
        if outcome.error is not None:
            raise outcome.error
        record = require(store, artwork_key(work), "an artwork pool")
    on_event(events.StageProgress("artwork", 1, 1))
    return record


def make_artwork(work: ArtworkWork) -> None:
    """Make a title's pool if the store does not have it. Runs on any worker.

    Raises:
        SourceUnusable: the source cannot be read or is not supported.
        ToolFailed, FrameMismatch: the source could not be decoded as planned.
        StoreUnusable: the store cannot be read or written.
    """
    store = title_store(open_store(work.store), work.title.source)
    stills, track = find_stills(work.title.source, work.store)

    def make(_: Path) -> Made:
        start = time.process_time() + ffmpeg.children_cpu_seconds()
        artwork, files = _make_pool(work, stills, track)
        seconds = time.process_time() + ffmpeg.children_cpu_seconds() - start
        # Hundreds of small files are one blob: each blob is synced, copied and checked by itself.
        places, offset = {}, 0
        for uri, content in files.items():
            places[uri] = offset, len(content)
            offset += len(content)
        value = {"artwork": json.loads(artwork.to_json()), "files": places}
        return Made(value, {"files": b"".join(files.values())}, {"other": seconds})

    find_or_make(
        store,
        artwork_key(work),
        make,
        stage="artwork",
        version=ARTWORK_VERSION,
        title=work.title.id,
    )


def _make_pool(work: ArtworkWork, stills: Stills, track: ScrubTrack) -> tuple[Artwork, Files]:
    """Make the document of a pool, and its files."""
    reference = work.title.reference
    title = _document_title(work.title)
    aspect = Fraction(reference.width, reference.height)
    fetch = partial(_full_frames, reference)
    looked = choose_pool(
        stills, work.title.shots, reference.frames, reference.frame_rate, aspect, fetch
    )
    stills, pool = looked.stills, looked.pool
    area = _picture_area(reference, stills, pool)
    made: Files = {}
    sight = work.sight
    reader = PortraitReader()
    ranks = {still.frame: rank for rank, still in enumerate(pool.chosen)}
    candidates = []
    for frame, picture in _pictures(reference, ranks, looked.pictures):
        rank = ranks[frame]
        candidate, files = build_candidate(title, stills, pool, rank, picture, area, reader, sight)
        candidates.append(candidate)
        made |= files
    scrub, files = build_scrub(track, title)
    made |= files
    facts = title, stills, pool, area, candidates, scrub, models_sha256(), sight
    return build_artwork(*facts), made


def pool_of(record: Record, store: Store) -> tuple[Artwork, Files]:
    """Return the pool of a record of :func:`find_artwork`, and its files by their URIs."""
    content = memoryview(store.path(record.blobs["files"]).read_bytes())
    files = {
        uri: bytes(content[offset : offset + length])
        for uri, (offset, length) in record.value["files"].items()
    }
    return Artwork.model_validate(record.value["artwork"]), files


def _pictures(
    reference: ReferenceSource, frames: Iterable[int], known: Mapping[int, UInt8]
) -> Iterator[tuple[int, UInt8]]:
    """Yield frames at full size, fetching those that are not known."""
    missing = []
    for frame in frames:
        if frame in known:
            yield frame, known[frame]
        else:
            missing.append(frame)
    yield from _full_frames(reference, missing)


def _document_title(title: Title) -> ArtworkTitle:
    reference = title.reference
    return ArtworkTitle(
        id=title.id,
        source=title.name,
        sha256=title.source.sha256,
        width=reference.width,
        height=reference.height,
        frame_rate=f"{reference.frame_rate.numerator}/{reference.frame_rate.denominator}",
        frames=reference.frames,
    )


def _picture_area(reference: ReferenceSource, stills: Stills, pool: Pool) -> Box:
    """Return the frame without black bars.

    Only if the stills show bars are a few of the brightest pictures fetched to measure them.
    """
    size = reference.width, reference.height
    bright = stills.measure("bright")
    rough = picture_area(*size, stills.bars, bright)
    if rough == Box(0, 0, *size):
        return rough
    brightest = sorted(pool.chosen, key=lambda still: -float(bright[still.row]))
    numbers = [still.frame for still in brightest[:_MAX_BAR_PICTURES]]
    pictures = [picture for _, picture in _full_frames(reference, numbers)]
    return picture_area(*size, stills.bars, bright, pictures)


def _full_frames(reference: ReferenceSource, numbers: Iterable[int]) -> Iterator[tuple[int, UInt8]]:
    matrix = matrix_of(reference.sdr_matrix, reference.height)
    return fetch_frames(reference, numbers, matrix)
