"""The claims, by one command: ``python -m tests.claims``.

Every title is run by every profile from an empty store, so that the CPU of the job is that of the
whole job, and compared (``ladder compare``) with the fixed ladder and both per-title CRF ladders.
The profile of release 0.1 is run for its CPU; it is compared only where ``--profiles`` names it.
Bits, qualities and CPU times of every title and profile are kept in ``data/claims.jsonl`` as they
are measured; started again, the command goes on where it stopped, and measures anew only what was
made by another profile, other weights or from another source. The tables are BD-rates by title and
judge, what viewers receive, and CPU times.

``--weights`` names a folder of weights, ``GROUP.safetensors`` for titles of that group, which were
trained without it; titles whose group has no such file are predicted by the weights of the product,
and the tables say so. ``--quick 5`` takes about the first 5 seconds of every title and keeps its
results elsewhere. ``--show`` prints the tables without measuring.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor
from cluster.execution.fingerprint import own_fingerprint
from cluster.jobs.compare import CompareOptions, compare_ladder
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.package.package import Package
from cluster.store import file_sha256
from cluster.training.catalog import group_of, read_groups
from encoder.errors import BadInput, ShotladderError
from ladder.profiles import load_profile, profile_sha256
from tests.claims_material import (
    PROFILES,
    TITLES,
    TODAY,
    Kept,
    Result,
    identity,
    measured,
    no_ladders,
)
from tests.claims_tables import tables
from tests.conftest import CORPUS


@dataclass(frozen=True, slots=True)
class Claims:
    """Where the claims are measured."""

    work: Path
    """Folder for cut sources, packages and the stores of runs; its content may be lost."""
    store: Path
    """Store of the comparisons, which profiles share."""
    weights: Path | None
    """Folder with weights by group."""
    quick: float | None
    """Seconds that are taken of every title, or None for what :data:`TITLES` says."""
    workers: int | None

    def seconds(self, title: str) -> float | None:
        """Return the seconds that are taken of a title; None for all of it."""
        whole = TITLES.get(Path(title).name)
        return self.quick if self.quick is not None else whole

    def source(self, title: str) -> Path:
        """Return the path of what is taken of a title."""
        path, seconds = original(title), self.seconds(title)
        if seconds is None:
            return path
        out = self.work / f"{seconds:g}s-{path.name}"
        if not out.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            beside = self.work / f"new-{out.name}"
            cut(path, seconds, beside)
            beside.replace(out)
        return out

    def weights_for(self, title: str) -> Path | None:
        """Return the weights that were trained without a title's group, where there are any."""
        if self.weights is None:
            return None
        group = group_of(Path(title), read_groups(CORPUS.resolve() / "catalog.csv"))
        path = self.weights / f"{group}.safetensors"
        return path if path.is_file() else None

    def identity(self, title: str, profile: str) -> str:
        """Return what decides the result of a title under a profile."""
        weights = self.weights_for(title)
        return identity(
            file_sha256(original(title)),
            self.seconds(title),
            profile_sha256(load_profile(profile)),
            file_sha256(weights) if weights else "",
        )

    def measure(
        self, title: str, profile: str, on_event: events.Listener, *, compared: bool = True
    ) -> Result:
        """Run a title by a profile, and compare the package unless only its CPU is asked for.

        Raises:
            ShotladderError: the run or the comparison failed.
        """
        package = self.work / "packages" / f"{Path(title).stem}-{self.identity(title, profile)}"
        if not package.is_dir():
            self.make_package(title, profile, package, on_event)
        opened, weights = Package.open(package), self.weights_for(title)
        ladders = self._ladders(package, on_event) if compared else no_ladders(opened)
        return Result(
            title=title,
            profile=profile,
            identity=self.identity(title, profile),
            code=own_fingerprint().parts["code"],
            seconds=float(opened.seconds),
            weights=file_sha256(weights) if weights else "",
            cpu_seconds=opened.run["cpu_seconds"],
            **ladders,
        )

    def _ladders(self, package: Path, on_event: events.Listener) -> dict[str, Any]:
        options = CompareOptions(package, store=self.store, workers=self.workers)
        return measured(compare_ladder(options, on_event, self._executor()))

    def _executor(self) -> Executor | None:
        """Return this process as the one worker; None for worker processes."""
        return InlineExecutor() if self.workers == 1 else None

    def make_package(
        self, title: str, profile: str, package: Path, on_event: events.Listener
    ) -> None:
        """Make a package from an empty store, whose content the comparison may use."""
        store = package.with_name(f"{package.name}-store")
        shutil.rmtree(store, ignore_errors=True)  # of a run that was killed
        made = package.with_name(f"{package.name}-new")
        shutil.rmtree(made, ignore_errors=True)
        options = RunOptions(
            self.source(title),
            made,
            profile=profile,
            weights=self.weights_for(title),
            store=store,
            workers=self.workers,
        )
        run_title(options, on_event, self._executor())
        for kind in ("blobs", "records"):
            shutil.copytree(
                store / kind, self.store / kind, copy_function=_linked, dirs_exist_ok=True
            )
        made.replace(package)
        shutil.rmtree(store)


def original(title: str) -> Path:
    """Return the path of a whole title.

    Raises:
        BadInput: the corpus has no such file.
    """
    path = CORPUS.resolve() / title
    if not path.is_file():
        raise BadInput(f"no such file: {path}")
    return path


def _linked(source: str, target: str) -> None:
    """Add a finished entry of a store to another; entries of one name have the same content."""
    if Path(target).exists():
        return
    try:
        os.link(source, target)
    except OSError:  # the folders lie on two file systems
        shutil.copy2(source, target)


def cut(path: Path, seconds: float, out: Path) -> None:
    """Copy the video of a file up to the keyframe nearest to ``seconds``, without encoding it.

    All of it where there is no keyframe but the first.
    """
    with av.open(path) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        first = packets[0].dts or 0
        times = [float((packet.dts - first) * stream.time_base) for packet in packets]
        ends = [n for n, packet in enumerate(packets) if packet.is_keyframe and n]
        end = min(ends, key=lambda n: abs(times[n] - seconds), default=len(packets))
        if times[-1] <= seconds:
            end = len(packets)
        with av.open(out, "w") as target:
            copied = target.add_stream_from_template(stream)
            for packet in packets[:end]:
                packet.stream = copied
                target.mux(packet)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--titles", help="file names, separated by commas; all six unless given")
    parser.add_argument("--profiles", default=",".join(PROFILES))
    parser.add_argument("--weights", type=Path, help="folder with GROUP.safetensors")
    parser.add_argument("--quick", type=float, metavar="SECONDS")
    parser.add_argument("--kept", type=Path, help="file of results")
    parser.add_argument("--work", type=Path, default=Path("out/claims"))
    parser.add_argument("--store", type=Path, help="store of the comparisons")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--show", action="store_true", help="measure nothing")
    asked = parser.parse_args(arguments)
    titles = asked.titles.split(",") if asked.titles else [*TITLES]
    profiles = [*dict.fromkeys([TODAY, *asked.profiles.split(",")])]
    claims = Claims(
        asked.work, asked.store or asked.work / "store", asked.weights, asked.quick, asked.workers
    )
    usual = Path("data/claims.jsonl") if asked.quick is None else asked.work / "quick.jsonl"
    kept = Kept(asked.kept or usual)
    found, failed = [], False
    for title in titles:
        for profile in profiles:
            try:
                result = kept.get(title, profile)
                compared = profile in asked.profiles.split(",")
                current = (
                    result is not None
                    and result.identity == claims.identity(title, profile)
                    and (bool(result.ours) or not compared)
                )
                if not current and not asked.show:
                    result = claims.measure(title, profile, _say, compared=compared)
                    kept.put(result)
            except ShotladderError as error:
                failed = True
                print(f"{title}, {profile}: {error.message}", file=sys.stderr, flush=True)
                continue
            if result is not None:
                found.append(result)
                stale = "" if current or not asked.show else " (stale: measure it again)"
                print(
                    f"{title}, {profile}: {result.whole_cpu:.0f} s of CPU{stale}", file=sys.stderr
                )
    ours = [one for one in found if one.profile != TODAY or TODAY in asked.profiles.split(",")]
    print(tables(ours, [one for one in found if one.profile == TODAY]))
    return int(failed)


def _say(event: events.Event) -> None:
    if isinstance(event, events.Warned | events.Noted):
        print(f"  {event.message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
