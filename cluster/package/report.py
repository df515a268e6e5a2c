"""``report.html``: all that is known of a finished ladder on one page that needs no network.

The page is a template (``cluster/package/report.html``) and one JSON object in it. What a package
has is shown; what it has not is said. Pictures are decoded from the package, and from the source
where it is there. Pages are sent to others, so places on this machine are not told.
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
from typing import Any

from cluster import events
from cluster.package.comparison import NAME as COMPARISON
from cluster.package.comparison import SavedComparison, compare_codecs, read_comparison
from cluster.package.explain import SegmentFacts, shot_facts
from cluster.package.package import Package
from cluster.package.plots import title_plot
from encoder import pictures, review
from encoder.errors import OutputUnwritable, ShotladderError
from encoder.source.reference import ReferenceSource
from ladder.document import Ladder, Rung
from ladder.hull import upper_hull

NAME = "report.html"
SCHEMA = 1
THUMBNAIL_HEIGHT = 54
THUMBNAIL_FRAME = 12
"""Frame of a shot that stands for it: past a cut's flash, before much has to be decoded."""
SHEET_COLUMNS = 40
FRAME_WIDTH = 640
WORST = 4
"""Shots whose frames are shown side by side."""
START_SECONDS = (2, 4, 8, 16)
ARTWORK = 12


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is asked of a report."""

    directory: Path
    out: Path | None = None
    """A file; ``report.html`` in the package by default."""
    source: Path | None = None
    """For frames of the source; where the run found it by default."""
    frames: bool = True
    """Whether there are pictures at all."""


def write_report(options: ReportOptions, on_event: events.Listener) -> Path:
    """Write the page.

    Raises:
        BadInput: the folder holds no package.
        OutputUnwritable: the page cannot be written.
    """
    package = Package.open(options.directory)
    with _reference(options, package, on_event) as (reference, lacking):
        data = collect(options, package, on_event, reference, lacking)
    page = render({**data, "run": shown_run(package.run) if package.run else None})
    out = options.out or options.directory / NAME
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputUnwritable(f"{out} cannot be written ({error.strerror})") from error
    return out


@contextlib.contextmanager
def _reference(
    options: ReportOptions, package: Package, on_event: events.Listener
) -> Iterator[tuple[ReferenceSource | None, str | None]]:
    """The source, for frames of it; or why it is not to be had."""
    if not options.frames:
        yield None, None
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            source = package.open_source(Path(scratch), options.source)
        except ShotladderError as error:
            on_event(events.Warned(f"no frames of the source in the report: {error.message}"))
            yield None, "it was not found, or is another file now"
        else:
            yield source.reference, None


def shown_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json`` with names of files in place of their paths."""
    options = dict(run.get("options") or {})
    for name in ("face_model", "weights"):
        options[name] = options.get(name) and Path(str(options[name])).name
    return {**run, "source": Path(str(run.get("source", ""))).name, "options": options}


def render(data: Mapping[str, Any]) -> str:
    """The template with its data."""
    template = resources.files("cluster.package").joinpath("report.html").read_text("utf-8")
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Inside a script element only these can end or change it.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    title = str(data["title"]["source"]).replace("&", "&amp;").replace("<", "&lt;")
    return template.replace("@TITLE@", title).replace("@DATA@", text)


def collect(
    options: ReportOptions,
    package: Package,
    on_event: events.Listener,
    reference: ReferenceSource | None = None,
    lacking: str | None = None,
) -> dict[str, Any]:
    """Everything on the page but the run, as JSON.

    Args:
        options: Whether there are pictures, above all.
        package: Package to report on.
        on_event: Called with the progress.
        reference: The source, for frames of it; None where there is none.
        lacking: Why there is no source.
    """
    folder, ladder, known = package.directory, package.ladder, package.measurements
    shots = shot_facts(package)
    compared = read_comparison(folder)
    stages = 3
    on_event(events.StagePlanned("report", stages, unit="parts"))
    looks: dict[str, Any] = {}
    if options.frames:
        looks |= {"thumbnails": _thumbnails(folder, ladder)}
        on_event(events.StageProgress("report", 1, stages))
        rows = [one.segments for one in shots]
        looks |= {"worst": _worst(folder, ladder, rows, on_event, reference, lacking)}
    on_event(events.StageProgress("report", 2, stages))
    data = {
        "schema": SCHEMA,
        "title": {**ladder.title.model_dump(), "fps": float(package.frame_rate)},
        "facts": {
            **ladder.model_dump(exclude={"title", "rungs", "schema_"}, mode="json"),
            "models": ladder.quality_models,
            "weights": known.weights,
        },
        "shots": [[row.start_frame, row.end_frame, row.cuts] for row in known.shots],
        "rungs": [_rung(ladder, rung) for rung in ladder.rungs],
        # Per rung and shot: CRF, bytes, quality, width, height, predicted bytes and quality,
        # the search's reason, why.
        "segments": [
            [
                [
                    *(s.segment.crf, s.segment.bytes, round(s.quality, 2)),
                    *(s.segment.width, s.segment.height),
                    *(s.predicted_bytes, _rounded(s.predicted_quality)),
                    *(s.reason, s.why),
                ]
                for s in of
            ]
            for of in zip(*(one.segments for one in shots), strict=True)
        ],
        "cells": _cells(package),
        "plot": _plot(package),
        "comparison": _comparison(compared),
        "codecs": _codecs(package, compared),
        "stale_comparison": compared is None and (folder / COMPARISON).exists(),
        "start": _start(folder, ladder),
        "artwork": _artwork(folder),
        **looks,
        **_scan(folder, ladder, on_event),
    }
    on_event(events.StageProgress("report", stages, stages))
    return data


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _json(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_bytes())
    return None


def _rung(ladder: Ladder, rung: Rung) -> dict[str, Any]:
    return {
        **rung.model_dump(exclude={"segments", "slope"}, mode="json"),
        "gain": _rounded(ladder.marginal_quality(rung)),
    }


def _cells(package: Package) -> dict[str, Any]:
    """Return the measured points by shot, each as [position of the size, CRF, bytes, quality], and
    the hull of each shot.
    """
    cells = [(package.recipe_of(cell), cell) for cell in package.measurements.cells]
    kinds = sorted(
        {(recipe, cell.size) for recipe, cell in cells},
        key=lambda kind: (kind[0] != package.recipe, kind[0], kind[1].width * kind[1].height),
    )
    several = len({recipe for recipe, _ in kinds}) > 1
    position = {kind: number for number, kind in enumerate(kinds)}
    by_shot: list[list[list[float]]] = [[] for _ in package.shots]
    for recipe, cell in cells:
        row = [position[recipe, cell.size], cell.crf, cell.bytes, round(cell.quality, 2)]
        by_shot[cell.shot].append(row)
    hulls = [upper_hull([p[2] for p in of], [p[3] for p in of]) for of in by_shot]
    names = [f"{recipe} {w}\u00d7{h}" if several else f"{w}\u00d7{h}" for recipe, (w, h) in kinds]
    return {"sizes": names, "shots": by_shot, "hulls": hulls}


def _plot(package: Package) -> list[dict[str, Any]]:
    """The title's hulls; a long one is thinned to what a screen shows."""
    return [
        {
            "label": one.label,
            "joined": one.joined,
            "basis": one.basis,
            "points": [[round(p.bitrate), round(p.quality, 3)] for p in _thin(one.points)],
        }
        for one in title_plot(package).series
    ]


def _thin(points: Sequence[Any], most: int = 150) -> Sequence[Any]:
    if len(points) <= most:
        return points
    step = (len(points) - 1) / (most - 1)
    return [points[round(number * step)] for number in range(most)]


def _comparison(compared: SavedComparison | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    return {
        "exhaustive": compared.exhaustive,
        "ladders": {
            name: [
                [row.name, row.bitrate, {m: round(q.mean, 3) for m, q in row.quality.items()}]
                for row in rows
            ]
            for name, rows in compared.ladders.items()
        },
        "claims": compared.claims,
    }


def _codecs(package: Package, compared: SavedComparison | None) -> list[dict[str, Any]]:
    """BD-rate of codecs on this title: what was compared last, otherwise what the run measured."""
    if compared is not None and compared.codecs:
        return [one.model_dump() for one in compared.codecs]
    return [asdict(one) for one in compare_codecs(package)]


def _start(folder: Path, ladder: Ladder) -> dict[str, Any]:
    """Bytes of init and first segments per rung until so many seconds can be played."""
    rate = ladder.frame_rate
    audio = _audio_files(folder)
    table = []
    for rung in ladder.rungs:
        init = (folder / rung.init_uri).stat().st_size if (folder / rung.init_uri).exists() else 0
        needed = []
        for seconds in START_SECONDS:
            total, count = init, 0
            for segment in rung.segments:
                if float(segment.start_frame / rate) >= seconds:
                    break
                total, count = total + segment.bytes, count + 1
            needed.append([total, count])
        table.append(needed)
    return {
        "seconds": START_SECONDS,
        "rungs": table,
        "audio": sum(path.stat().st_size for path in audio),
        "prefetch": (folder / "prefetch.json").exists(),
    }


def _audio_files(folder: Path) -> list[Path]:
    """Init and segments of the sound in order; [] where there is none."""
    init = folder / "audio" / "init.mp4"
    return [init, *sorted((folder / "audio").glob("*.m4s"))] if init.exists() else []


# -- pictures ----------------------------------------------------------------------------------


def _data_url(content: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _small_rung(ladder: Ladder) -> int:
    """The cheapest rung that has the pixels for a thumbnail and looks like the title."""
    fits = [n for n, r in enumerate(ladder.rungs) if min(r.width, r.height) >= THUMBNAIL_HEIGHT]
    good = [n for n in fits if ladder.rungs[n].quality[ladder.quality_model].mean >= 60]
    return (good or fits or [len(ladder.rungs) - 1])[0]


def _thumbnails(folder: Path, ladder: Ladder) -> dict[str, Any] | None:
    rung = ladder.rungs[_small_rung(ladder)]
    title = ladder.title
    width = max(2, round(THUMBNAIL_HEIGHT * title.width / title.height))
    try:
        init = (folder / rung.init_uri).read_bytes()
        found = [
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
    image = pictures.jpeg(pictures.sheet(found, SHEET_COLUMNS), 72)
    return {
        "columns": SHEET_COLUMNS,
        "width": width,
        "height": THUMBNAIL_HEIGHT,
        "rung": rung.name,
        "image": _data_url(image),
    }


def _worst(
    folder: Path,
    ladder: Ladder,
    shots: Sequence[Sequence[SegmentFacts]],
    on_event: events.Listener,
    reference: ReferenceSource | None,
    lacking: str | None,
) -> dict[str, Any] | None:
    """The middle frames of the worst shots: source, a low rung, a high rung."""
    count = len(ladder.rungs)
    low, high = count // 3, min(count - 1, 2 * count // 3)
    worst = sorted(range(len(shots)), key=lambda n: shots[n][low].quality)[:WORST]
    rows = []
    for number in worst:
        segment = shots[number][low].segment
        frame = (segment.start_frame + segment.end_frame) // 2
        images = []
        try:
            if reference is not None:
                images.append(["source", _shown(pictures.source_picture(reference, frame), ladder)])
            for rung in (ladder.rungs[place] for place in dict.fromkeys((low, high))):
                at = rung.segments[number]
                picture = pictures.segment_picture(
                    (folder / rung.init_uri).read_bytes(),
                    (folder / at.uri).read_bytes(),
                    frame - at.start_frame,
                )
                images.append([rung.name, _shown(picture, ladder)])
        except (OSError, ShotladderError) as error:
            on_event(events.Warned(f"no frames of shot {number} in the report: {error}"))
            return None
        rows.append({"shot": number, "frame": frame, "images": images})
    return {"rows": rows, "without_source": lacking}


def _shown(picture: pictures.Picture, ladder: Ladder) -> str:
    """As a viewer's screen scales it: all at the title's shape, as wide as the page needs."""
    title = ladder.title
    width = min(FRAME_WIDTH, title.width)
    height = round(width * title.height / title.width)
    return _data_url(pictures.jpeg(pictures.fitted(picture, width, height), 85))


def _artwork(folder: Path) -> dict[str, Any] | None:
    """The best candidates with their smallest 16:9 picture, where the package has artwork."""
    found = _json(folder / "artwork.json")
    if not isinstance(found, dict):
        return None
    candidates = []
    for one in sorted(found.get("candidates", []), key=lambda c: c.get("rank", 0))[:ARTWORK]:
        image = None
        for crop in one.get("crops", []):
            for rendition in sorted(crop.get("renditions", []), key=lambda r: r.get("bytes", 0)):
                path = folder / str(rendition.get("uri", ""))
                inside = path.resolve().is_relative_to(folder.resolve())
                if image is None and inside and path.is_file():
                    image = _data_url(path.read_bytes(), f"image/{rendition.get('format', 'jpeg')}")
        candidates.append(
            {key: one.get(key) for key in ("rank", "frame", "shot", "quality", "flags")}
            | {"image": image}
        )
    return {"candidates": candidates, "count": len(found.get("candidates", []))}


# -- sound and stillness -----------------------------------------------------------------------


def _scan(folder: Path, ladder: Ladder, on_event: events.Listener) -> dict[str, Any]:
    found: dict[str, Any] = {"loudness": None, "stretches": None}
    rung = ladder.rungs[_small_rung(ladder)]
    seconds = float(ladder.title.frames / ladder.frame_rate)
    with tempfile.TemporaryDirectory() as scratch:
        joined = Path(scratch) / "joined.mp4"
        try:
            if audio := _audio_files(folder):
                _join(audio, joined)
                found["loudness"] = asdict(review.loudness(joined, ladder.title.frames))
            _join([folder / rung.init_uri, *(folder / s.uri for s in rung.segments)], joined)
            stretches = review.stretches(joined, ladder.title.frames, seconds)
            found["stretches"] = {
                "rung": rung.name,
                "found": [[s.kind, round(s.start, 3), round(s.end, 3)] for s in stretches],
            }
        except (OSError, ShotladderError) as error:
            on_event(events.Warned(f"no loudness or still stretches in the report: {error}"))
    return found


def _join(parts: Sequence[Path], out: Path) -> None:
    with out.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
