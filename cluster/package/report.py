"""``report.html``: everything known about a finished ladder, on one page that needs no network.

The page is a template (``cluster/package/report.html``) with one JSON object in it. Missing parts
are listed as missing. Pictures are decoded from the package, and from the source where it can be
found. Pages are sent to other people, so they contain no local paths.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from cluster import events
from cluster.package.comparison import (
    Against,
    SavedComparison,
    compare_codecs,
    has_stale_comparison,
    read_comparison,
)
from cluster.package.explain import SegmentFacts, ShotFacts, shot_facts
from cluster.package.package import Package
from cluster.package.plots import title_plot
from encoder import pictures, review
from encoder.errors import OutputUnwritable, ShotladderError
from encoder.source.reference import ReferenceSource
from ladder.document import Ladder, Quality, Rung
from ladder.hull import upper_hull
from vmaf.models import is_judge
from vmaf.sampled import scored_frames

REPORT_FILE = "report.html"
"""Name of the file in a package."""
SCHEMA = 1
"""Version of the JSON object in the page."""
THUMBNAIL_HEIGHT = 54
THUMBNAIL_FRAME = 12
"""Frame of a shot that its thumbnail shows: late enough to be past a flash at the cut, early enough
that little has to be decoded."""
THUMBNAIL_QUALITY = 60
"""Mean quality from which a rung is good enough for thumbnails."""
SHEET_COLUMNS = 40
"""Thumbnails per row of the picture that holds them all."""
FRAME_WIDTH = 640
WORST = 4
"""Number of shots whose frames are shown side by side."""
START_SECONDS = (2, 4, 8, 16)
"""Playing times in seconds for which the page lists the bytes to be fetched."""
ARTWORK = 12
"""Number of artwork candidates on the page."""
PLOT_POINTS = 150
"""Largest number of points of a curve: more than that a screen cannot show."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Options of a report."""

    directory: Path
    """Folder of the package."""
    out: Path | None = None
    """File for the page; None is ``report.html`` in the package."""
    source: Path | None = None
    """Path of the source, for frames of it; None is where the run found it."""
    frames: bool = True
    """True where the page has thumbnails, and frames of the worst shots."""


def write_report(options: ReportOptions, on_event: events.Listener) -> Path:
    """Write the page, and return its path.

    Raises:
        BadInput: the folder holds no package, or the source that is named is not its own.
        OutputUnwritable: the page cannot be written.
        SourceUnusable: the source that is named cannot be read.
    """
    package = Package.open(options.directory)
    with _open_source(options, package, on_event) as (reference, missing):
        data = collect(
            package, on_event, frames=options.frames, reference=reference, missing=missing
        )
    page = render({**data, "run": shown_run(package.run) if package.run else None})
    out = options.out or options.directory / REPORT_FILE
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputUnwritable(
            f"{out} cannot be written ({error.strerror}); name another file with --out"
        ) from error
    return out


@contextlib.contextmanager
def _open_source(
    options: ReportOptions, package: Package, on_event: events.Listener
) -> Iterator[tuple[ReferenceSource | None, str | None]]:
    """Yield the source and None, or None and why it is unavailable (None if nobody needs it)."""
    if not options.frames:
        yield None, None
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            source = package.open_source(Path(scratch), options.source)
        except ShotladderError as error:
            if options.source is not None:
                raise  # a page that is there was made with the right one
            on_event(events.Warned(f"no frames of the source in the report: {error.message}"))
            yield None, "the file was not found or has changed"
        else:
            yield source.reference, None


def shown_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``run.json`` with file names instead of paths."""
    options = dict(run.get("options") or {})
    # Earlier releases had a face model.
    for name in options.keys() & {"face_model", "weights"}:
        options[name] = options.get(name) and Path(str(options[name])).name
    return {**run, "source": Path(str(run.get("source", ""))).name, "options": options}


def render(data: Mapping[str, Any]) -> str:
    """Return the page with ``data`` in it."""
    template = resources.files("cluster.package").joinpath("report.html").read_text("utf-8")
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # No other characters can end or change a script element.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    title = str(data["title"]["source"]).replace("&", "&amp;").replace("<", "&lt;")
    return template.replace("@TITLE@", title).replace("@DATA@", text)


def collect(
    package: Package,
    on_event: events.Listener,
    *,
    frames: bool = True,
    reference: ReferenceSource | None = None,
    missing: str | None = None,
) -> dict[str, Any]:
    """Return everything on the page but the run, as JSON.

    Args:
        package: package to report on.
        on_event: receives the progress.
        frames: True adds thumbnails, and frames of the worst shots.
        reference: the source, for frames of it; None where it is unavailable.
        missing: why the source is unavailable.

    Raises:
        BadInput: the package lacks a document.
    """
    ladder, measurements = package.ladder, package.measurements
    shots = shot_facts(package)
    compared = read_comparison(package.directory)
    data = {
        "schema": SCHEMA,
        "title": {**ladder.title.model_dump(), "fps": float(package.frame_rate)},
        "facts": {
            **ladder.model_dump(exclude={"title", "rungs", "schema_"}, mode="json"),
            "scored_frames": scored_frames(ladder.quality_model),
            "models": sorted(ladder.quality_models, key=is_judge),
            "decibels": [model for model in ladder.quality_models if is_judge(model)],
            "weights": measurements.weights,
        },
        "shots": [[row.start_frame, row.end_frame, row.cuts] for row in measurements.shots],
        "rungs": [_rung(ladder, rung) for rung in ladder.rungs],
        "segments": [
            [_segment(facts) for facts in rung]
            for rung in zip(*(shot.segments for shot in shots), strict=True)
        ],
        "cells": _cells(package),
        "plot": _plot(package),
        "comparison": _comparison(compared),
        "codecs": _codecs(package, compared),
        "stale_comparison": has_stale_comparison(package.directory),
        "start": start_bytes(package),
        "artwork": artwork(package.directory),
    }
    with events.stage(on_event, "report", 3, unit="parts") as progress:
        if frames:
            data["thumbnails"] = _thumbnails(package)
            progress.advance()
            data["worst"] = _worst(package, shots, on_event, reference, missing)
            progress.advance()
        else:
            progress.advance(2)
        data |= _scan(package, on_event)
    return data


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _rung(ladder: Ladder, rung: Rung) -> dict[str, Any]:
    return {
        **rung.model_dump(exclude={"segments", "slope"}, mode="json"),
        "gain": _rounded(ladder.marginal_quality(rung)),
    }


def _segment(facts: SegmentFacts) -> list[Any]:
    """Return a row of the page's table of segments; its order is that of the page's constants."""
    segment = facts.segment
    return [
        *(segment.crf, segment.bytes, round(facts.quality, 2), segment.width, segment.height),
        *(facts.predicted_bytes, _rounded(facts.predicted_quality)),
        *(facts.reason, facts.explanation),
    ]


def _cells(package: Package) -> dict[str, Any]:
    """Return the measured points by shot, each as [index of the size, CRF, bytes, quality], and
    the hull of each shot.
    """
    cells = [(package.recipe_of(cell), cell) for cell in package.measurements.cells]
    kinds = sorted(
        {(recipe, cell.size) for recipe, cell in cells},
        key=lambda kind: (kind[0] != package.recipe, kind[0], kind[1].width * kind[1].height),
    )
    recipes = {recipe for recipe, _ in kinds}
    brief = len({recipe.codec for recipe in recipes}) == len(recipes)
    index = {kind: number for number, kind in enumerate(kinds)}
    by_shot: list[list[list[float]]] = [[] for _ in package.shots]
    for recipe, cell in cells:
        row = [index[recipe, cell.size], cell.crf, cell.bytes, round(cell.quality, 2)]
        by_shot[cell.shot].append(row)
    hulls = [upper_hull([row[2] for row in rows], [row[3] for row in rows]) for rows in by_shot]
    names = [
        f"{recipe.codec if brief else recipe} {w}\u00d7{h}" if len(recipes) > 1 else f"{w}\u00d7{h}"
        for recipe, (w, h) in kinds
    ]
    return {"sizes": names, "shots": by_shot, "hulls": hulls}


def _plot(package: Package) -> list[dict[str, Any]]:
    return [
        {
            "label": series.label,
            "joined": series.joined,
            "basis": series.basis,
            "points": [[round(p.bitrate), round(p.quality, 3)] for p in _thin(series.points)],
        }
        for series in title_plot(package).series
    ]


def _thin(points: Sequence[Any]) -> Sequence[Any]:
    """Return at most :data:`PLOT_POINTS` of the points, evenly chosen, with the first and last."""
    if len(points) <= PLOT_POINTS:
        return points
    step = (len(points) - 1) / (PLOT_POINTS - 1)
    return [points[round(number * step)] for number in range(PLOT_POINTS)]


def _comparison(compared: SavedComparison | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    return {
        "exhaustive": compared.exhaustive,
        "ladders": [
            {
                "name": ladder.name,
                "codec": ladder.codec,
                "recipe": ladder.recipe,
                "rungs": [[rung.name, rung.bitrate, _means(rung.quality)] for rung in ladder.rungs],
            }
            for ladder in compared.ladders
        ],
        "claims": compared.claims,
        "receipts": compared.receipts,
        "verdict": compared.verdict,
        "baseline": compared.baseline,
        "least": {
            codec: {against: compared.least(codec, against) for against in get_args(Against)}
            for codec in dict.fromkeys(claims["codec"] for claims in compared.claims)
        },
    }


def _means(quality: Mapping[str, Quality]) -> dict[str, float]:
    return {model: round(pooled.mean, 3) for model, pooled in quality.items()}


def _codecs(package: Package, compared: SavedComparison | None) -> list[dict[str, Any]]:
    """Return BD-rates of codecs on this title, from the saved comparison if that has any."""
    saved = compared.codecs if compared is not None else []
    return [asdict(codec) for codec in saved or compare_codecs(package)]


def start_bytes(package: Package) -> dict[str, Any]:
    """Return what a player fetches before it can play so many seconds, for each rung:
    [bytes of the init segment and the first media segments, number of those media segments].
    """
    folder, rate = package.directory, package.frame_rate
    table = []
    for rung in package.ladder.rungs:
        init = folder / rung.init_uri
        init_bytes = init.stat().st_size if init.exists() else 0
        first = [
            [segment for segment in rung.segments if segment.start_frame < seconds * rate]
            for seconds in START_SECONDS
        ]
        table.append([[init_bytes + sum(s.bytes for s in part), len(part)] for part in first])
    return {
        "seconds": START_SECONDS,
        "rungs": table,
        "audio": sum(path.stat().st_size for path in _audio_files(folder)),
        "prefetch": (folder / "prefetch.json").exists(),
    }


def _audio_files(folder: Path) -> list[Path]:
    """Return the init and media segments of the sound, in order; [] where there is none."""
    init = folder / "audio" / "init.mp4"
    return [init, *sorted((folder / "audio").glob("*.m4s"))] if init.exists() else []


# -- pictures ----------------------------------------------------------------------------------


def _data_url(content: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _thumbnail_rung(ladder: Ladder) -> Rung:
    """Return the cheapest rung that is large and good enough for thumbnails."""
    large = [r for r in ladder.rungs if min(r.width, r.height) >= THUMBNAIL_HEIGHT]
    good = [r for r in large if r.quality[ladder.quality_model].mean >= THUMBNAIL_QUALITY]
    return (good or large or ladder.rungs[-1:])[0]


def _thumbnails(package: Package) -> dict[str, Any] | None:
    """Return one picture with a thumbnail of every shot; None where the media cannot be decoded."""
    folder, title = package.directory, package.ladder.title
    rung = _thumbnail_rung(package.ladder)
    width = max(2, round(THUMBNAIL_HEIGHT * title.width / title.height))
    try:
        init = (folder / rung.init_uri).read_bytes()
        thumbnails = [
            pictures.fitted(
                pictures.segment_picture(
                    init,
                    (folder / segment.uri).read_bytes(),
                    min(THUMBNAIL_FRAME, (segment.end_frame - segment.start_frame) // 2),
                ),
                width,
                THUMBNAIL_HEIGHT,
            )
            for segment in rung.segments
        ]
    except (OSError, ShotladderError):
        return None
    image = pictures.jpeg(pictures.sheet(thumbnails, SHEET_COLUMNS), 72)
    return {
        "columns": SHEET_COLUMNS,
        "width": width,
        "height": THUMBNAIL_HEIGHT,
        "rung": rung.name,
        "image": _data_url(image),
    }


def _worst(
    package: Package,
    shots: Sequence[ShotFacts],
    on_event: events.Listener,
    reference: ReferenceSource | None,
    missing: str | None,
) -> dict[str, Any] | None:
    """Return the middle frames of the worst shots: from the source, a low rung and a high rung.

    None, with a warning, where a frame cannot be decoded.
    """
    ladder, count = package.ladder, len(package.ladder.rungs)
    low, high = count // 3, min(count - 1, 2 * count // 3)
    rows = []
    for shot in sorted(shots, key=lambda shot: shot.segments[low].quality)[:WORST]:
        segment = shot.segments[low].segment
        frame = (segment.start_frame + segment.end_frame) // 2
        images = []
        try:
            if reference is not None:
                picture = pictures.source_picture(reference, frame)
                images.append(["source", _as_shown(picture, ladder)])
            for number in dict.fromkeys((low, high)):
                picture = _frame(package.directory, ladder.rungs[number], shot.shot, frame)
                images.append([ladder.rungs[number].name, _as_shown(picture, ladder)])
        except (OSError, ShotladderError) as error:
            on_event(events.Warned(f"no frames of shot {shot.shot} in the report: {error}"))
            return None
        rows.append({"shot": shot.shot, "frame": frame, "images": images})
    return {"rows": rows, "without_source": missing}


def _frame(folder: Path, rung: Rung, shot: int, frame: int) -> pictures.Picture:
    """Decode one frame of the title from a rung's segment."""
    segment = rung.segments[shot]
    init, media = (folder / rung.init_uri).read_bytes(), (folder / segment.uri).read_bytes()
    return pictures.segment_picture(init, media, frame - segment.start_frame)


def _as_shown(picture: pictures.Picture, ladder: Ladder) -> str:
    """Return a picture as a screen shows it: scaled to the title's shape and the page's width."""
    title = ladder.title
    width = min(FRAME_WIDTH, title.width)
    height = round(width * title.height / title.width)
    return _data_url(pictures.jpeg(pictures.fitted(picture, width, height), 85))


def artwork(folder: Path) -> dict[str, Any] | None:
    """Return the best candidates, each with its smallest picture; None where there is no artwork.

    A document of another version is shown as far as it can be read.
    """
    try:
        document = json.loads((folder / "artwork.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    candidates = document.get("candidates", [])
    best = sorted(candidates, key=lambda candidate: candidate.get("rank", 0))[:ARTWORK]
    fields = ("rank", "frame", "shot", "quality", "flags")
    return {
        "candidates": [
            {name: candidate.get(name) for name in fields} | {"image": _image(folder, candidate)}
            for candidate in best
        ],
        "count": len(candidates),
    }


def _image(folder: Path, candidate: Mapping[str, Any]) -> str | None:
    """Return the smallest picture of a candidate's first crop that has one inside the package."""
    for crop in candidate.get("crops", []):
        for rendition in sorted(crop.get("renditions", []), key=lambda r: r.get("bytes", 0)):
            path = folder / str(rendition.get("uri", ""))
            if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
                return _data_url(path.read_bytes(), f"image/{rendition.get('format', 'jpeg')}")
    return None


# -- loudness, black and frozen stretches ------------------------------------------------------


def _scan(package: Package, on_event: events.Listener) -> dict[str, Any]:
    """Measure the loudness of the sound, and find black and frozen stretches of the picture.

    What cannot be measured is None, with a warning.
    """
    folder, frames = package.directory, package.ladder.title.frames
    rung = _thumbnail_rung(package.ladder)
    scan: dict[str, Any] = {"loudness": None, "stretches": None}
    with tempfile.TemporaryDirectory() as scratch:
        joined = Path(scratch) / "joined.mp4"
        try:
            if audio := _audio_files(folder):
                _join(audio, joined)
                scan["loudness"] = asdict(review.loudness(joined, frames))
            _join([folder / rung.init_uri, *(folder / s.uri for s in rung.segments)], joined)
            stretches = review.stretches(joined, frames, float(package.seconds))
            scan["stretches"] = {
                "rung": rung.name,
                "found": [[s.kind, round(s.start, 3), round(s.end, 3)] for s in stretches],
            }
        except (OSError, ShotladderError) as error:
            on_event(
                events.Warned(f"no loudness, black or frozen stretches in the report: {error}")
            )
    return scan


def _join(parts: Sequence[Path], out: Path) -> None:
    with out.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
