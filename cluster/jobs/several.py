"""Packages of several sources, one after the other, each in a folder of its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from cluster import events
from cluster.execution.executor import Executor, connect
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.run import run_title
from cluster.package.package import Package
from cluster.store import file_sha256
from encoder import ffmpeg
from encoder.errors import BadInput, ShotladderError, SourcesFailed

Outcome = Literal["made", "made before", "failed"]


@dataclass(frozen=True, slots=True)
class SourceOutcome:
    """What became of one of several sources."""

    source: Path
    out: Path
    """Folder of its package."""
    outcome: Outcome
    error: ShotladderError | None = None
    """Why there is no package."""
    package: Package | None = None
    seconds: float = 0.0
    """Time that it took, on the clock."""


def package_names(sources: Sequence[Path]) -> tuple[str, ...]:
    """Return the name of each source's folder: that of the file without its ending, or else with
    it, with as many folders before it as tell it from the others.

    Raises:
        BadInput: a source is named twice.
    """
    whole = [source.absolute() for source in sources]
    if twice := [str(path) for path, count in Counter(whole).items() if count > 1]:
        raise BadInput(f"{twice[0]} is named twice; name each source once")
    most = max(len(path.parts) for path in whole)
    for parts in range(1, most + 1):
        for paths in ([path.parent / path.stem for path in whole], whole):
            names = [_name(path, parts) for path in paths]
            if len(set(names)) == len(names):
                return tuple(names)
    return tuple(_name(path, most) for path in whole)


def _name(path: Path, parts: int) -> str:
    name = "-".join(part.strip("/") for part in path.parts[-parts:]).strip("-")
    return name.lstrip(".") or "title"


def several_options(options: RunOptions, sources: Sequence[Path]) -> tuple[RunOptions, ...]:
    """Return the options of the run for each source.

    Raises:
        BadInput: a source is named twice, the folder is a package itself, or an option cannot mean
            anything for any source.
    """
    LadderRequest.of(options)
    if (options.out / "ladder.json").exists():
        raise BadInput(
            f"{options.out} is a package; name a folder for the packages of {len(sources)} sources"
        )
    return tuple(
        replace(options, source=source, out=options.out / name)
        for source, name in zip(sources, package_names(sources), strict=True)
    )


def run_titles(
    runs: Sequence[RunOptions], on_event: events.Listener, executor: Executor | None = None
) -> tuple[SourceOutcome, ...]:
    """Make a package of each source; one that fails does not stop the others.

    A source whose package is there, made of the same bytes with the same options and versions, is
    not made again. All runs use one set of workers.
    """
    first = runs[0]
    outcomes = []
    with connect(
        executor,
        workers=first.workers,
        scheduler=first.scheduler,
        priority=first.priority,
        on_event=on_event,
    ) as running:
        for number, options in enumerate(runs, 1):
            on_event(events.Noted(f"source {number} of {len(runs)}: {options.source}"))
            outcomes.append(_one(options, on_event, running))
    return tuple(outcomes)


def _one(options: RunOptions, on_event: events.Listener, executor: Executor) -> SourceOutcome:
    begun = time.monotonic()
    try:
        if is_made(options):
            package = Package.open(options.out)
            return SourceOutcome(options.source, options.out, "made before", package=package)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        run_title(options, on_event, executor)
        package = Package.open(options.out)
    except ShotladderError as error:
        on_event(events.Warned(f"{options.source} failed: {error.message}"))
        seconds = time.monotonic() - begun
        return SourceOutcome(options.source, options.out, "failed", error, seconds=seconds)
    seconds = time.monotonic() - begun
    return SourceOutcome(options.source, options.out, "made", package=package, seconds=seconds)


def is_made(options: RunOptions) -> bool:
    """Return True where the package of a run is there, of the same bytes, options and versions."""
    try:
        run: Mapping[str, Any] = json.loads((options.out / "run.json").read_bytes())
        ladder: Mapping[str, Any] = json.loads((options.out / "ladder.json").read_bytes())
    except (OSError, ValueError):
        return False
    asked = json.loads(json.dumps(options.document()))
    versions = {"shotladder": version("shotladder"), "ffmpeg": ffmpeg.version()}
    made_with = {name: run.get("versions", {}).get(name) for name in versions}
    if run.get("options") != asked or made_with != versions or not options.source.is_file():
        return False
    if not _is_whole(options.out, ladder) or not _has_weights(options, ladder):
        return False
    title = ladder.get("title", {})
    made_of = (title.get("excerpt") or {}).get("source_sha256") or title.get("sha256")
    return bool(made_of == file_sha256(options.source))


def _is_whole(folder: Path, ladder: Mapping[str, Any]) -> bool:
    """Return True where the playlists and all pictures are there, of the sizes that are stated."""
    wanted: dict[str, int | None] = {"master.m3u8": None, "manifest.mpd": None}
    for rung in ladder["rungs"]:
        wanted[rung["init_uri"]] = None
        wanted |= {segment["uri"]: segment["bytes"] for segment in rung["segments"]}
    for uri, size in wanted.items():
        path = folder / uri
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            return False
    return True


def _has_weights(options: RunOptions, ladder: Mapping[str, Any]) -> bool:
    """Return False where the file of weights that is named is another one by now."""
    used = ladder["search"].get("weights")
    return not (options.weights and used) or file_sha256(options.weights).startswith(used)


def failure(outcomes: Sequence[SourceOutcome]) -> SourcesFailed | None:
    """Return the error of a command of which sources failed; None where none did."""
    failed = [one for one in outcomes if one.outcome == "failed"]
    if not failed:
        return None
    names = ", ".join(one.source.name for one in failed[:3])
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    others = "the packages of the others are there, and " if len(failed) < len(outcomes) else ""
    return SourcesFailed(
        f"{len(failed)} of {len(outcomes)} sources failed: {names}{more}; {others}the same command "
        "tries these again",
        sources=[str(one.source) for one in failed],
    )
