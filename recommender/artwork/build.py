"""Builds ``artwork.json`` and its files from chosen stills and their full-size pictures."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from encoder.arrays import Float32, UInt8
from encoder.pictures import jpeg
from recommender.artwork import crops, metrics
from recommender.artwork.blurhash import blurhash
from recommender.artwork.colour import dominant_colours
from recommender.artwork.crops import Box, Point
from recommender.artwork.descriptors import EMBEDDING_ID
from recommender.artwork.document import (
    ACTIONS_URI,
    FOLDER,
    SCRUB_URI,
    SHEETS_TEMPLATE,
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
from recommender.artwork.faces import Face
from recommender.artwork.filters import FILTERS, QUOTA
from recommender.artwork.people import Person, alone, shot_scale
from recommender.artwork.pool import EYES_SHUT, Pool
from recommender.artwork.portraits import PortraitReader
from recommender.artwork.saliency import saliency_map
from recommender.artwork.scrub import ScrubTrack
from recommender.artwork.stills import MEASURES, Stills
from recommender.artwork.vision import OPEN_NSFW_SHA256, Sight, nudity_score

SPOILER_PLACE: Final = 0.8
"""Share of the title after which stills may show its end: by time alone, whatever they show."""

_SMALL_SIDE = 320

WIDTHS: Final[dict[str, tuple[int, ...]]] = {
    "16:9": (1280, 480),
    "2:3": (600, 240),
    "1:1": (600, 240),
    "21:9": (1280, 480),
    "9:16": (540, 270),
}
"""Widths of the renditions in pixels by aspect; a crop that is smaller has smaller ones."""

_CLEARLY_SMALLER = 0.75
_LOSS_WEIGHT = 0.5
_WEBP_QUALITY, _JPEG_QUALITY = 82, 88
# Takes two fifths of the time of OpenCV's only method (4) and makes files that are 5 % larger.
_WEBP_METHOD = 2

NOTHING_MORE: Final = Sight()
"""Candidates are looked at as they always are."""

Files = dict[str, bytes]
"""Contents of files by their URIs."""


def build_artwork(
    title: ArtworkTitle,
    stills: Stills,
    pool: Pool,
    area: Box,
    candidates: Sequence[Candidate],
    scrub: ScrubFacts,
    face_model: str,
    sight: Sight = NOTHING_MORE,
) -> Artwork:
    """Build the document; ``candidates`` has one for each chosen still, in any order.

    Of chosen stills with the same pixels, the first by rank stays. ``area`` is the frame without
    black bars, ``face_model`` the digest of the models that find and read faces, and ``sight`` what
    the candidates were looked at with beyond that.
    """
    by_rank = rank_crops(_distinct(candidates))
    dropped = Counter(pool.filtered.dropped_by)
    covered = {still.cluster for still in pool.chosen}
    return Artwork(
        pool=pool_id(by_rank),
        title=title,
        embedding_model=EMBEDDING_ID if sight.embedding is None else sight.embedding.model,
        face_model=face_model[:16],
        nudity_model=OPEN_NSFW_SHA256[:16] if sight.nudity else None,
        picture=_area(area),
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
        candidates=by_rank,
        actions_uri=ACTIONS_URI,
        scrub=scrub,
        replaces=None,
    )


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates by rank, counted anew, without those whose pixels came before."""
    first: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda candidate: candidate.rank):
        first.setdefault(candidate.id, candidate)
    return [
        candidate.model_copy(update={"rank": rank}) for rank, candidate in enumerate(first.values())
    ]


def rank_crops(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Rank the usable crops of each aspect among candidates by rank.

    The order is that of the candidates, each moved back as far as its crop loses of the picture: a
    crop that loses everything moves by half of the list.
    """
    ranks: dict[tuple[str, str], int] = {}
    for aspect in crops.ASPECTS:
        keys = []
        for candidate in candidates:
            crop = next(crop for crop in candidate.crops if crop.aspect == aspect)
            if crop.usable:
                kept = (crop.quality or 0.0) / candidate.quality if candidate.quality else 1.0
                place = candidate.rank + _LOSS_WEIGHT * len(candidates) * (1 - kept)
                keys.append((round(place, 3), candidate.rank, candidate.id))
        ranks |= {(aspect, identity): rank for rank, (_, _, identity) in enumerate(sorted(keys))}
    return [
        candidate.model_copy(
            update={
                "crops": [
                    crop.model_copy(update={"rank": ranks.get((crop.aspect, candidate.id))})
                    for crop in candidate.crops
                ]
            }
        )
        for candidate in candidates
    ]


def build_candidate(
    title: ArtworkTitle,
    stills: Stills,
    pool: Pool,
    rank: int,
    picture: UInt8,
    area: Box,
    reader: PortraitReader,
    sight: Sight = NOTHING_MORE,
) -> tuple[Candidate, Files]:
    """Build the candidate ``pool.chosen[rank]``, with the files of its crops.

    ``picture`` is the still at full size, BGR in full range (height, width, 3), ``area`` its part
    without black bars. ``reader`` reads the faces that were not read for the choice; ``sight`` is
    what else is looked at.
    """
    chosen = pool.chosen[rank]
    identity = sha256(picture.tobytes()).hexdigest()[:16]
    inner = area.of(picture)
    small = _small_yuv(inner)
    attention = saliency_map(small)
    people = chosen.people
    if people is None:
        found = stills.faces[chosen.row] or ()
        people = alone(found, [reader.read(picture, face) for face in found])
    flags = list(chosen.flags)
    if any(person.shut for person in people[:1]) and EYES_SHUT not in flags:
        flags.append(EYES_SHUT)
    faces = [_face_in_area(person.face, area, picture) for person in people]
    focus = crops.focal_point(attention, faces)
    view = _View(picture, area, attention, focus, faces)
    built_crops: list[Crop] = []
    files: Files = {}
    for aspect in crops.ASPECTS:
        crop, crop_files = _build_crop(identity, aspect, chosen.quality, view)
        built_crops.append(crop)
        files |= crop_files
    candidate = Candidate(
        id=identity,
        action_id=identity,
        rank=rank,
        frame=chosen.frame,
        time_seconds=round(float(chosen.frame / Fraction(title.frame_rate)), 6),
        shot=chosen.shot,
        cluster=chosen.cluster,
        quality=chosen.quality,
        flags=flags,
        focal_point=_in_frame(focus, area, picture),
        title_side=metrics.title_space(metrics.gradient_map(small[0]))[1],
        crops=built_crops,
        metrics={
            name: Measure(
                raw=round(float(stills.measures[chosen.row, column]), 5),
                percentile=round(float(pool.percentiles[chosen.row, column]), 4),
            )
            for column, name in enumerate(MEASURES)
        },
        colours=[
            DominantColour(hex=colour.hex, share=colour.share) for colour in dominant_colours(inner)
        ],
        perceptual_hash=f"{int(stills.hashes[chosen.row]):016x}",
        embedding=(
            [round(float(value), 5) for value in stills.embeddings[chosen.row]]
            if sight.embedding is None
            else sight.embedding.of(inner)
        ),
        faces=[_found_face(person) for person in people],
        people=len(people),
        shot_scale=shot_scale(people),
        appeal=chosen.appeal,
        spoiler_zone=chosen.frame >= SPOILER_PLACE * title.frames,
        maturity=None,
        nudity_score=nudity_score(inner) if sight.nudity else None,
        rights=None,
    )
    return candidate, files


def build_scrub(track: ScrubTrack, title: ArtworkTitle) -> tuple[ScrubFacts, Files]:
    """Build the facts and the files of a title's scrub track."""
    frame_rate = Fraction(title.frame_rate)
    sheets = {
        SHEETS_TEMPLATE.replace("$Number%03d$", f"{number:03d}"): sheet
        for number, sheet in enumerate(track.sheets)
    }
    names = tuple(uri.removeprefix(f"{FOLDER}/") for uri in sheets)
    facts = ScrubFacts(
        uri=SCRUB_URI,
        sheets=list(sheets),
        step_seconds=round(float(track.step / frame_rate), 6),
        width=track.width,
        height=track.height,
    )
    return facts, {**sheets, SCRUB_URI: track.webvtt(frame_rate, title.frames, names).encode()}


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A picture and where people look in it."""

    picture: UInt8
    area: Box
    attention: Float32
    focus: Point
    faces: Sequence[Face]
    """Faces in shares of ``area``."""


def _build_crop(identity: str, aspect: str, quality: float, view: _View) -> tuple[Crop, Files]:
    area, focus = view.area, view.focus
    box = crops.crop(area, crops.ASPECTS[aspect], view.attention, focus, view.faces)
    window = box.of(view.picture)
    whole_face = crops.keeps_faces(box, area, view.faces)
    kept = crops.kept_share(box, area, view.attention, view.faces)
    space, side = metrics.title_space(metrics.gradient_map(_small_yuv(window)[0]))
    listed: list[Rendition] = []
    files: Files = {}
    for width, height in rendition_sizes(aspect, box) if whole_face is not False else ():
        picture_at_size = scaled(window, width, height)
        for kind, (suffix, code) in FORMATS.items():
            content = code(picture_at_size)
            uri = f"{FOLDER}/{identity}/{aspect.replace(':', 'x')}-{width}{suffix}"
            files[uri] = content
            listed.append(
                Rendition(
                    format=kind,
                    width=width,
                    height=height,
                    bytes=len(content),
                    sha256=sha256(content).hexdigest(),
                    uri=uri,
                )
            )
    crop = Crop(
        aspect=aspect,
        area=_area(box),
        focal_point=Place(
            x=_share((area.x + focus.x * area.width - box.x) / box.width),
            y=_share((area.y + focus.y * area.height - box.y) / box.height),
        ),
        renditions=listed,
        usable=whole_face is not False,
        quality=round(quality * kept, 4),
        keeps_faces=whole_face,
        title_space=round(space, 4),
        title_side=side,
        blurhash=blurhash(window),
    )
    return crop, files


def _small_yuv(bgr: UInt8) -> UInt8:
    """Return a picture scaled down for saliency, as (3, height, width)."""
    scale = min(1.0, _SMALL_SIDE / max(bgr.shape[:2]))
    small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb).transpose(2, 0, 1))


def _area(box: Box) -> Area:
    return Area(x=box.x, y=box.y, width=box.width, height=box.height)


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)


def _in_frame(point: Point, area: Box, picture: UInt8) -> Place:
    """Convert a point of ``area`` to shares of the whole frame."""
    height, width = picture.shape[:2]
    return Place(
        x=_share((area.x + point.x * area.width) / width),
        y=_share((area.y + point.y * area.height) / height),
    )


def _face_in_area(face: Face, area: Box, picture: UInt8) -> Face:
    """Convert a face of the whole frame to shares of ``area``."""
    height, width = picture.shape[:2]
    return replace(
        face,
        x=(face.x * width - area.x) / area.width,
        y=(face.y * height - area.y) / area.height,
        width=face.width * width / area.width,
        height=face.height * height / area.height,
    )


def _found_face(person: Person) -> FoundFace:
    face = person.face
    return FoundFace(
        x=face.x,
        y=face.y,
        width=face.width,
        height=face.height,
        score=face.score,
        eyes_open=person.eyes_open,
        yaw=person.portrait.yaw,
    )


def rendition_sizes(aspect: str, box: Box) -> list[tuple[int, int]]:
    """Return (width, height) of each rendition of a crop, the largest first.

    No rendition is larger than its crop.
    """
    largest = min(WIDTHS[aspect][0], box.width)
    others = [width for width in WIDTHS[aspect][1:] if width <= _CLEARLY_SMALLER * largest]
    return [(width, max(2, round(width * box.height / box.width))) for width in (largest, *others)]


def scaled(picture: UInt8, width: int, height: int) -> UInt8:
    """Scale a picture down by averaging."""
    if (width, height) == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def webp(bgr: UInt8) -> bytes:
    """Code a picture (h, w, 3) as WebP."""
    file = io.BytesIO()
    picture = Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    picture.save(file, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return file.getvalue()


FORMATS: Final[Mapping[Literal["webp", "jpeg"], tuple[str, Callable[[UInt8], bytes]]]] = {
    "webp": (".webp", webp),
    "jpeg": (".jpg", lambda bgr: jpeg(bgr, _JPEG_QUALITY)),
}
"""Suffix and coder of each format."""
