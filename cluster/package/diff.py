"""What changed between two ladders of one title, and between two sets of ladders.

Everything compared is measured on delivered segments, by a quality model that both have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.package.documents import read_ladder
from cluster.package.package import Package
from encoder.errors import BadInput
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate, monotone
from ladder.document import Ladder, Rung


@dataclass(frozen=True, slots=True)
class RungChange:
    """A rung of the new ladder beside the old one nearest to it in rate."""

    old: Rung | None
    """None: the new one has no counterpart."""
    new: Rung | None
    bitrate_percent: float | None
    quality_change: float | None
    """Mean by the common quality model."""


@dataclass(frozen=True, slots=True)
class ShotChange:
    """A shot in both ladders, over the rungs that are paired."""

    shot: int
    start_frame: int
    end_frame: int
    bd_rate: float | None
    """Percent; negative: fewer bits. None where the two share too little quality."""
    bytes_percent: float
    """Of all paired rungs together."""
    quality_change: float
    """Mean over the paired rungs."""
    worst_change: float
    """Lowest change of quality in one rung."""


@dataclass(frozen=True, slots=True)
class LadderDifference:
    """Two ladders of one title."""

    title: str
    quality_model: str
    """By which both were measured."""
    facts: Mapping[str, tuple[Any, Any]]
    """What differs in how they were made: old and new."""
    bd_rate: BdRate | NoOverlap | None
    """Of the new with the old as the anchor; None: a ladder has too few rungs."""
    rungs: tuple[RungChange, ...]
    shots: tuple[ShotChange, ...]
    """Worst first. () where the shots are not the same."""
    cpu_seconds: tuple[float | None, float | None]
    """Of the runs, where they made everything themselves; None where the store helped."""
    encodes: tuple[int, int]

    @property
    def percent(self) -> float | None:
        """The BD-rate, where there is one."""
        return self.bd_rate.percent if isinstance(self.bd_rate, BdRate) else None


def diff_ladders(old: Path, new: Path) -> LadderDifference:
    """Compare the packages in two folders.

    Raises:
        BadInput: one is no package, they are of different titles, or no quality model measured
            both.
    """
    packages = Package.open(old), Package.open(new)
    before, after = (package.ladder for package in packages)
    if before.title.sha256 != after.title.sha256:
        raise BadInput(
            f"{old} is of {before.title.source} and {new} of {after.title.source} (their content "
            "differs); name two ladders of one title"
        )
    common = [m for m in after.quality_models if m in before.quality_models]
    if not common:
        raise BadInput(
            f"{old} was measured by {', '.join(before.quality_models)} and {new} by "
            f"{', '.join(after.quality_models)}; run one again with --also MODEL of the other"
        )
    model = common[0]
    pairs = paired_rungs(before.rungs, after.rungs)
    curves = [
        monotone(RatePoint(rung.bitrate, rung.quality[model].mean) for rung in ladder.rungs)
        for ladder in (before, after)
    ]
    rated = min(map(len, curves)) > 1
    return LadderDifference(
        title=after.title.source,
        quality_model=model,
        facts=_facts(*packages),
        bd_rate=bd_rate(curves[0], curves[1]) if rated else None,
        rungs=tuple(_change(a, b, model) for a, b in pairs),
        shots=_shots(before, after, pairs, model),
        cpu_seconds=(_cpu(packages[0]), _cpu(packages[1])),
        encodes=(before.search.encodes, after.search.encodes),
    )


def paired_rungs(
    old: Sequence[Rung], new: Sequence[Rung]
) -> tuple[tuple[Rung | None, Rung | None], ...]:
    """Rungs nearest in rate to each other, both ways; others stand alone. By ascending rate."""

    def nearest(rung: Rung, others: Sequence[Rung]) -> int:
        return min(
            range(len(others)), key=lambda i: abs(math.log(others[i].bitrate / rung.bitrate))
        )

    there = [nearest(rung, new) for rung in old]
    back = [nearest(rung, old) for rung in new]
    pairs: list[tuple[Rung | None, Rung | None]] = []
    for number, rung in enumerate(old):
        mutual = back[there[number]] == number
        pairs.append((rung, new[there[number]] if mutual else None))
    pairs += [(None, rung) for i, rung in enumerate(new) if there[back[i]] != i]
    return tuple(sorted(pairs, key=lambda pair: (pair[1] or pair[0]).bitrate))  # type: ignore[union-attr]


def _change(old: Rung | None, new: Rung | None, model: str) -> RungChange:
    if old is None or new is None:
        return RungChange(old, new, None, None)
    return RungChange(
        old,
        new,
        (new.bitrate / old.bitrate - 1) * 100,
        new.quality[model].mean - old.quality[model].mean,
    )


def _shots(
    old: Ladder,
    new: Ladder,
    pairs: Sequence[tuple[Rung | None, Rung | None]],
    model: str,
) -> tuple[ShotChange, ...]:
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    bounds = [[(s.start_frame, s.end_frame) for s in one.rungs[0].segments] for one in (old, new)]
    if bounds[0] != bounds[1] or not both:
        return ()
    changes = []
    for number, (start, end) in enumerate(bounds[0]):
        curves = []
        for one in (old, new):
            segments = [rung.segments[number] for rung in one.rungs]
            curves.append(monotone(RatePoint(s.bytes, s.quality[model]) for s in segments))
        rated = bd_rate(curves[0], curves[1]) if min(map(len, curves)) > 1 else None
        paired = [(a.segments[number], b.segments[number]) for a, b in both]
        moved = [b.quality[model] - a.quality[model] for a, b in paired]
        changes.append(
            ShotChange(
                shot=number,
                start_frame=start,
                end_frame=end,
                bd_rate=rated.percent if isinstance(rated, BdRate) else None,
                bytes_percent=(
                    sum(b.bytes for _, b in paired) / sum(a.bytes for a, _ in paired) - 1
                )
                * 100,
                quality_change=math.fsum(moved) / len(moved),
                worst_change=min(moved),
            )
        )
    return tuple(sorted(changes, key=lambda c: -(c.bd_rate if c.bd_rate is not None else 0.0)))


def _facts(old: Package, new: Package) -> dict[str, tuple[Any, Any]]:
    def told(package: Package) -> dict[str, Any]:
        ladder = package.ladder
        return {
            "version": package.run.get("versions", {}).get("shotladder"),
            "tool": ladder.tool,
            "recipe": ladder.recipe,
            "quality model": ladder.quality_model,
            "policy": ladder.policy,
            "profile": ladder.profile,
            "search": ladder.search.mode,
            "weights": ladder.search.weights,
            "encodes": ladder.search.encodes,
            "shots": len(ladder.rungs[0].segments),
            "rungs": len(ladder.rungs),
            "one size per rung costs (%)": (
                None
                if ladder.locked_cost is None or ladder.locked_cost.bd_rate_percent is None
                else f"{ladder.locked_cost.bd_rate_percent:.2f} ({ladder.locked_cost.basis})"
            ),
        }

    before, after = told(old), told(new)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def _cpu(package: Package) -> float | None:
    """Return the CPU seconds of a run; None unless it made all of its encodes itself."""
    run = package.run
    whole = run.get("encoded_now") == run.get("scored_now") == package.ladder.search.encodes
    seconds = run.get("cpu_seconds")
    return sum(seconds.values()) if whole and isinstance(seconds, dict) else None


# -- many titles -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a change is too bad."""

    mean_bd_rate: float
    """Percent, over titles."""
    title_bd_rate: float
    """Percent, of any title."""
    cpu_percent: float | None
    """Of all titles whose CPU is known on both sides; None is no limit."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The same titles under two versions or recipes."""

    titles: tuple[LadderDifference, ...]
    """Worst first."""
    only_old: tuple[str, ...]
    """Titles that the new side lacks."""
    only_new: tuple[str, ...]
    mean_bd_rate: float | None
    """Percent, mean over the titles that have one."""
    cpu_percent: float | None
    """New over old, of the titles whose CPU is known on both sides."""
    cpu_titles: int
    failures: tuple[str, ...]
    """In words: which limits are passed; () is a pass."""


def upgrade_report(old: Path, new: Path, limits: Limits) -> UpgradeReport:
    """Compare two packages, or two folders of packages by the titles in them.

    Raises:
        BadInput: no title is on both sides, or as :func:`diff_ladders`.
    """
    before, after = find_packages(old), find_packages(new)
    names = {sha: read_ladder(path).title.source for sha, path in {**before, **after}.items()}
    shared = [sha for sha in before if sha in after]
    if not shared:
        raise BadInput(f"{old} and {new} hold no title in common; name ladders of the same titles")
    found = [diff_ladders(before[sha], after[sha]) for sha in shared]
    titles = tuple(sorted(found, key=lambda d: -(d.percent if d.percent is not None else 0.0)))
    percents = [title.percent for title in titles if title.percent is not None]
    costs = [(a, b) for a, b in (t.cpu_seconds for t in titles) if a is not None and b is not None]
    cpu = (sum(b for _, b in costs) / sum(a for a, _ in costs) - 1) * 100 if costs else None
    mean = math.fsum(percents) / len(percents) if percents else None
    only_old = tuple(sorted(names[sha] for sha in before if sha not in after))
    return UpgradeReport(
        titles=titles,
        only_old=only_old,
        only_new=tuple(sorted(names[sha] for sha in after if sha not in before)),
        mean_bd_rate=mean,
        cpu_percent=cpu,
        cpu_titles=len(costs),
        failures=tuple(_failures(titles, only_old, mean, cpu, limits)),
    )


def _failures(
    titles: Sequence[LadderDifference],
    only_old: Sequence[str],
    mean: float | None,
    cpu: float | None,
    limits: Limits,
) -> list[str]:
    said = []
    if mean is not None and mean > limits.mean_bd_rate:
        said.append(f"mean BD-rate {mean:+.2f} % is over {limits.mean_bd_rate:g} %")
    for title in titles:
        if title.percent is None:
            said.append(f"{title.title} has no BD-rate: {title.bd_rate or 'too few rungs'}")
        elif title.percent > limits.title_bd_rate:
            said.append(
                f"{title.title}: BD-rate {title.percent:+.2f} % is over {limits.title_bd_rate:g} %"
            )
    if only_old:
        said.append(f"missing on the new side: {', '.join(only_old)}")
    if limits.cpu_percent is not None:
        if cpu is None:
            said.append("CPU cannot be compared: no title was made from an empty store both times")
        elif cpu > limits.cpu_percent:
            said.append(f"CPU {cpu:+.1f} % is over {limits.cpu_percent:g} %")
    return said


def find_packages(folder: Path) -> dict[str, Path]:
    """Packages by their title's digest: ``folder`` itself, or those right in it.

    Raises:
        BadInput: there is none, or two of one title.
    """
    if (folder / "ladder.json").exists():
        return {read_ladder(folder).title.sha256: folder}
    if not folder.is_dir():
        raise BadInput(f"{folder} is no directory; name a package or a folder of packages")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not (path / "ladder.json").exists():
            continue
        digest = read_ladder(path).title.sha256
        if digest in found:
            raise BadInput(
                f"{found[digest]} and {path} are of one title; keep one of each title on a side"
            )
        found[digest] = path
    if not found:
        raise BadInput(f"{folder} holds no package; name a package or a folder of packages")
    return found
