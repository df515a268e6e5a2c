"""The artwork stage: from a title's measured stills to its pool, with every file of it.

Stills are measured in the analysis pass (:mod:`cluster.stages.title`); here they are chosen,
fetched again at full size, cropped and coded, and all of it is kept in the store. Writing the pool
into a package only copies, and gives actions the names that they had in the package before.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.package.inspect import read_artwork
from cluster.stages.title import Title, find_stills, shots_key, stills_key
from cluster.store import Blob, Record, Store, open_store
from cluster.store.files import file_sha256
from cluster.store.keys import key
from encoder import ffmpeg
from encoder.analysis.frames import Plane
from encoder.errors import BadInput, StoreUnusable
from encoder.stills import FullFrame, fetch_frames
from recommender.artwork import crops, metrics
from recommender.artwork.colour import matrix_of
from recommender.artwork.descriptors import EMBEDDING_ID
from recommender.artwork.document import (
    Area,
    Artwork,
    ArtworkTitle,
    Candidate,
    Crop,
    DominantColour,
    Filter,
    FoundFace,
    Measure,
    Place,
    Rendition,
    ScrubFacts,
    Selection,
    pool_id,
)
from recommender.artwork.faces import Face, FaceFinder
from recommender.artwork.filters import FILTERS, QUOTA
from recommender.artwork.lineage import follow
from recommender.artwork.pool import POOL_VERSION, SPOILER_PLACE, Choice, Pool, make_pool
from recommender.artwork.sampling import MEASURES, Stills
from recommender.artwork.scrub import ScrubTrack

ARTWORK_VERSION: Final = 2
"""Part of the stage's key: raise it when any file of a pool changes."""

DOCUMENT: Final = "artwork.json"
FOLDER: Final = "artwork"
ACTIONS: Final = f"{FOLDER}/actions.parquet"
SCRUB: Final = f"{FOLDER}/scrub.vtt"
ACTIONS_SCHEMA: Final = "shotladder/actions/1"

_WEBP_QUALITY, _JPEG_QUALITY = 82, 88
# Two fifths of the time of OpenCV's only method (4), for files 5 % larger.
_WEBP_METHOD = 2
_MOST_BAR_PICTURES = 4


@dataclass(frozen=True, slots=True)
class ArtworkWork:
    """What a worker needs to make a title's pool."""

    title: Title
    store: str
    """Where the store is."""
    face_model: Path | None = None
    face_model_sha256: str | None = None


def check_face_model(path: Path | None) -> None:
    """See that a model for faces can be used, before any work is done.

    Raises:
        BadInput: it cannot.
    """
    if path is not None:
        FaceFinder(path)


def artwork_key(work: ArtworkWork) -> str:
    """Identity of a title's pool and all of its files."""
    title = work.title
    return key(
        "artwork",
        ARTWORK_VERSION,
        stills=stills_key(title.source),
        shots=shots_key(title.source),
        pool=POOL_VERSION,
        crops=crops.CROPS_VERSION,
        face_model=work.face_model_sha256,
        tools={name: version(name) for name in ("numpy", "opencv-python", "pillow")},
        tool=ffmpeg.version(),
        name=title.name,
    )


def find_artwork(
    title: Title,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
    face_model: Path | None = None,
) -> Record:
    """The title's pool, from the store or made on ``executor``.

    Raises:
        BadInput: the model for faces cannot be used.
        ToolFailed, FrameMismatch, StoreUnusable: as the stages do.
    """
    digest = file_sha256(face_model) if face_model else None
    work = ArtworkWork(title, store.place, face_model, digest)
    on_event(events.StagePlanned("artwork", 1, unit="pools"))
    found = store.get(artwork_key(work))
    if found is None:
        task = Task(id="artwork", function=make_artwork, arguments=(work,), label="artwork")
        # Workers may not see the source, and the pictures are of all of it.
        running = InlineExecutor() if store.remote else executor
        (outcome,) = running.run([task])
        if outcome.error is not None:
            raise outcome.error
        found = store.get(artwork_key(work))
        if found is None:
            raise StoreUnusable(f"the store at {store.place} lost a pool while it was in use")
    on_event(events.StageProgress("artwork", 1, 1))
    return found


def make_artwork(work: ArtworkWork) -> None:
    """Make a title's pool, if the store does not have it. Runs on any worker.

    Raises:
        SourceUnusable, ToolFailed, FrameMismatch, StoreUnusable: as the stages do.
    """
    store = open_store(work.store)
    stills, track = find_stills(work.title.source, work.store)
    identity = artwork_key(work)
    with store.claim(identity):
        if store.get(identity) is not None:
            return
        before = time.process_time() + ffmpeg.children_cpu_seconds()
        blobs: dict[str, Blob] = {}
        document = _Maker(work, store, stills, blobs).artwork(track)
        store.publish(
            identity,
            value=json.loads(document.to_json()),
            blobs=blobs,
            cpu_seconds={"other": time.process_time() + ffmpeg.children_cpu_seconds() - before},
            stage="artwork",
            version=ARTWORK_VERSION,
            title=work.title.id,
        )


def write_artwork(record: Record, store: Store, directory: Path, before: Artwork | None) -> Artwork:
    """Write a pool into a package's folder.

    Args:
        record: from :func:`find_artwork`.
        store: that it is in.
        directory: of the package.
        before: the pool of the package that this one replaces, if there is one: pictures that
            were in it keep the names of their actions.
    """
    made = Artwork.model_validate(record.value)
    document = follow(made, before) if before is not None else made
    for uri, blob in record.blobs.items():
        target = directory / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.path(blob).read_bytes())
    (directory / ACTIONS).write_bytes(actions_table(document))
    (directory / DOCUMENT).write_text(document.to_json(), encoding="utf-8")
    return document


def artwork_before(out: Path) -> Artwork | None:
    """The pool of the package in ``out``; None where there is none that can be read."""
    try:
        return read_artwork(out)
    except BadInput:
        return None


def actions_table(artwork: Artwork) -> bytes:
    """The candidates as a Parquet file, one row each, by rank: what a bandit has as features."""
    rows = artwork.candidates
    columns: dict[str, Any] = {
        "action_id": pa.array([one.action_id for one in rows], pa.string()),
        "candidate_id": pa.array([one.id for one in rows], pa.string()),
        "pool": pa.array([artwork.pool] * len(rows), pa.string()),
        "title_id": pa.array([artwork.title.id] * len(rows), pa.string()),
        "rank": pa.array([one.rank for one in rows], pa.int32()),
        "frame": pa.array([one.frame for one in rows], pa.int64()),
        "time_seconds": pa.array([one.time_seconds for one in rows], pa.float64()),
        "place": pa.array([one.frame / artwork.title.frames for one in rows], pa.float32()),
        "shot": pa.array([one.shot for one in rows], pa.int32()),
        "cluster": pa.array([one.cluster for one in rows], pa.int32()),
        "quality": pa.array([one.quality for one in rows], pa.float32()),
        "spoiler_zone": pa.array([one.spoiler_zone for one in rows], pa.bool_()),
        "faces": pa.array(
            [None if one.faces is None else len(one.faces) for one in rows], pa.int32()
        ),
        "perceptual_hash": pa.array([one.perceptual_hash for one in rows], pa.string()),
        "embedding": pa.array([one.embedding for one in rows], pa.list_(pa.float32())),
    }
    for name in MEASURES:
        columns[f"raw_{name}"] = pa.array([o.metrics[name].raw for o in rows], pa.float32())
        columns[f"percentile_{name}"] = pa.array(
            [one.metrics[name].percentile for one in rows], pa.float32()
        )
    facts = {"schema": ACTIONS_SCHEMA, "embedding_model": artwork.embedding_model}
    table = pa.table(columns).replace_schema_metadata({"shotladder": json.dumps(facts)})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the pool of one title; ``blobs`` collects its files by URI."""

    work: ArtworkWork
    store: Store
    stills: Stills
    blobs: dict[str, Blob]

    def artwork(self, track: ScrubTrack) -> Artwork:
        title, stills = self.work.title, self.stills
        reference = title.reference
        pool = make_pool(stills, title.shots, reference.frames, reference.frame_rate)
        picture = self._picture(pool)
        finder = FaceFinder(self.work.face_model) if self.work.face_model else None
        by_frame = {choice.frame: (rank, choice) for rank, choice in enumerate(pool.choices)}
        candidates = [
            self._candidate(*by_frame[full.number], full, pool, picture, finder)
            for full in self._frames(by_frame)
        ]
        candidates.sort(key=lambda one: one.rank)
        dropped = Counter(pool.filtered.reasons)
        covered = {choice.cluster for choice in pool.choices}
        digest = self.work.face_model_sha256
        return Artwork(
            pool=pool_id(candidates),
            title=ArtworkTitle(
                id=title.id,
                source=title.name,
                sha256=title.source.sha256,
                width=reference.width,
                height=reference.height,
                frame_rate=f"{reference.frame_rate.numerator}/{reference.frame_rate.denominator}",
                frames=reference.frames,
            ),
            embedding_model=EMBEDDING_ID,
            face_model=digest[:16] if digest else None,
            picture=_area(picture),
            selection=Selection(
                stills=len(stills),
                quota=QUOTA,
                filters=[
                    Filter(name=name, found=pool.filtered.found[name], dropped=dropped[name])
                    for name in FILTERS
                ],
                clusters=pool.clusters,
                uncovered_clusters=sorted(set(range(pool.clusters)) - covered),
            ),
            candidates=candidates,
            actions_uri=ACTIONS,
            scrub=self._scrub(track),
            replaces=None,
        )

    def _frames(self, numbers: Sequence[int] | dict[int, Any]) -> Iterator[FullFrame]:
        reference = self.work.title.reference
        matrix = matrix_of(reference.sdr_matrix, reference.height)
        return fetch_frames(reference, numbers, matrix)

    def _picture(self, pool: Pool) -> crops.Box:
        """The frame without bars; only where stills show some are pictures fetched to measure."""
        reference, stills = self.work.title.reference, self.stills
        size = reference.width, reference.height
        bright = stills.measure("bright")
        rough = crops.picture_area(*size, stills.bars, bright)
        if rough == crops.Box(0, 0, *size):
            return rough
        brightest = sorted(pool.choices, key=lambda one: -float(bright[one.row]))
        numbers = [choice.frame for choice in brightest[:_MOST_BAR_PICTURES]]
        pictures = [full.bgr for full in self._frames(numbers)]
        return crops.picture_area(*size, stills.bars, bright, pictures)

    def _candidate(
        self,
        rank: int,
        choice: Choice,
        full: FullFrame,
        pool: Pool,
        area: crops.Box,
        finder: FaceFinder | None,
    ) -> Candidate:
        title, stills, row = self.work.title, self.stills, choice.row
        identity = sha256(full.bgr.tobytes()).hexdigest()[:16]
        inner = area.of(full.bgr)
        small = _small_yuv(inner)
        attention = metrics.saliency(small)
        faces = finder.find(inner) if finder else None
        focus = crops.focal_point(attention, faces)
        frame = full.bgr.shape[1], full.bgr.shape[0]
        return Candidate(
            id=identity,
            action_id=identity,
            rank=rank,
            frame=choice.frame,
            time_seconds=round(float(choice.frame / title.reference.frame_rate), 6),
            shot=choice.shot,
            cluster=choice.cluster,
            quality=choice.quality,
            flags=list(choice.flags),
            focal_point=_in_frame(focus.x, focus.y, area, frame),
            title_side=metrics.title_space(metrics.gradient_map(small[0]))[1],
            crops=[
                self._crop(name, aspect, full.bgr, area, attention, focus, faces, identity)
                for name, aspect in crops.ASPECTS.items()
            ],
            metrics={
                name: Measure(
                    raw=round(float(stills.measures[row, at]), 5),
                    percentile=round(float(pool.percentiles[row, at]), 4),
                )
                for at, name in enumerate(MEASURES)
            },
            colours=[
                DominantColour(hex=colour.hex, share=colour.share)
                for colour in crops.dominant_colours(inner)
            ],
            perceptual_hash=f"{int(stills.hashes[row]):016x}",
            embedding=[round(float(value), 5) for value in stills.embeddings[row]],
            faces=None if faces is None else [_face(face, area, frame) for face in faces],
            spoiler_zone=choice.frame >= SPOILER_PLACE * title.reference.frames,
            maturity=None,
            rights=None,
        )

    def _crop(
        self,
        name: str,
        aspect: Fraction,
        picture: Plane,
        area: crops.Box,
        attention: Any,
        focus: crops.Point,
        faces: Sequence[Face] | None,
        identity: str,
    ) -> Crop:
        box = crops.crop(area, aspect, attention, focus, faces)
        window = box.of(picture)
        renditions = []
        for width, height in crops.rendition_sizes(name, box):
            scaled = crops.scaled(window, width, height)
            for kind, suffix, coded in (("webp", ".webp", _webp), ("jpeg", ".jpg", _jpeg)):
                blob = self.store.put_blob(coded(scaled))
                uri = f"{FOLDER}/{identity}/{name.replace(':', 'x')}-{width}{suffix}"
                self.blobs[uri] = blob
                renditions.append(
                    Rendition(
                        format="webp" if kind == "webp" else "jpeg",
                        width=width,
                        height=height,
                        bytes=blob.size,
                        sha256=blob.sha256,
                        uri=uri,
                    )
                )
        return Crop(
            aspect=name,
            area=_area(box),
            focal_point=Place(
                x=_share((area.x + focus.x * area.width - box.x) / box.width),
                y=_share((area.y + focus.y * area.height - box.y) / box.height),
            ),
            renditions=renditions,
        )

    def _scrub(self, track: ScrubTrack) -> ScrubFacts:
        reference = self.work.title.reference
        names = [f"scrub-{number:03d}.jpg" for number in range(len(track.sheets))]
        for name, sheet in zip(names, track.sheets, strict=True):
            self.blobs[f"{FOLDER}/{name}"] = self.store.put_blob(sheet)
        text = track.webvtt(reference.frame_rate, reference.frames, tuple(names))
        self.blobs[SCRUB] = self.store.put_blob(text.encode())
        return ScrubFacts(
            uri=SCRUB,
            sheets=[f"{FOLDER}/{name}" for name in names],
            step_seconds=round(float(track.step / reference.frame_rate), 6),
            width=track.width,
            height=track.height,
        )


def _webp(bgr: Plane) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
    picture.save(file, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return file.getvalue()


def _jpeg(bgr: Plane) -> bytes:
    coded, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert coded
    return content.tobytes()


def _small_yuv(bgr: Plane) -> Plane:
    """(3, height, width) of a picture, small: what saliency looks at."""
    scale = min(1.0, 320 / max(bgr.shape[:2]))
    small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb).transpose(2, 0, 1))


def _area(box: crops.Box) -> Area:
    return Area(x=box.x, y=box.y, width=box.width, height=box.height)


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)


def _in_frame(x: float, y: float, area: crops.Box, frame: tuple[int, int]) -> Place:
    return Place(
        x=_share((area.x + x * area.width) / frame[0]),
        y=_share((area.y + y * area.height) / frame[1]),
    )


def _face(face: Face, area: crops.Box, frame: tuple[int, int]) -> FoundFace:
    return FoundFace(
        x=round((area.x + face.x * area.width) / frame[0], 4),
        y=round((area.y + face.y * area.height) / frame[1], 4),
        width=round(face.width * area.width / frame[0], 4),
        height=round(face.height * area.height / frame[1], 4),
        score=face.score,
    )
