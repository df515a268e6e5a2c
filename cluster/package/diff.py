"""Show what changed between two ladders of one title, and between two sets of ladders.

Everything compared was measured on delivered segments, by a VMAF model that both sides have.
BD-rate is stated for every other quality model that both sides have, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.package.documents import read_ladder
from cluster.package.package import Package
from encoder.errors import BadInput
from ladder.bdrate import BdRate, NoOverlap, RatePoint
from ladder.claims import bd_claim
from ladder.document import Ladder, Rung
from vmaf.models import is_judge


@dataclass(frozen=True, slots=True)
class RungChange:
    """A rung of the new ladder beside the rung of the old one that is nearest in rate."""

    old: Rung | None
    """Rung of the old ladder; None where the new rung has no counterpart."""
    new: Rung | None
    """Rung of the new ladder; None where the old rung has no counterpart."""
    bitrate_percent: float | None
    """Change of the rate in percent."""
    quality_change: float | None
    """Change of the mean quality by the common model."""


@dataclass(frozen=True, slots=True)
class ShotChange:
    """A shot in both ladders."""

    shot: int
    """Number of the shot."""
    start_frame: int
    end_frame: int
    bd_rate: float | None
    """BD-rate over all rungs in percent, negative where the new ladder needs fewer bits; None where
    the two ladders share too little quality."""
    bytes_percent: float
    """Change of the shot's bytes in all paired rungs together, in percent."""
    quality_change: float
    """Mean change of quality over the paired rungs."""
    worst_change: float
    """Lowest change of quality in a paired rung."""


@dataclass(frozen=True, slots=True)
class LadderDifference:
    """What differs between two ladders of one title."""

    title: str
    """File name of the source."""
    quality_model: str
    """VMAF model that measured both ladders; all qualities here are its scores."""
    facts: Mapping[str, tuple[Any, Any]]
    """What differs in how the ladders were made, by name: old and new."""
    bd_rate: BdRate | NoOverlap | None
    """BD-rate of the new ladder against the old one; None where a ladder has too few rungs."""
    also: Mapping[str, BdRate | NoOverlap | None]
    """The same by each further quality model that measured both ladders, judges last."""
    rungs: tuple[RungChange, ...]
    """Rungs of both ladders, lowest rate first."""
    shots: tuple[ShotChange, ...]
    """Shots, worst first; () where the two ladders have different shots."""
    cpu_seconds: tuple[float | None, float | None]
    """CPU seconds of the old and the new run; None for a run that found encodes in the store."""
    encodes: tuple[int, int]
    """Number of encodes that the old and the new search measured."""

    @property
    def percent(self) -> float | None:
        """BD-rate in percent; None where there is none."""
        return _percent(self.bd_rate)

    def percent_by(self, model: str) -> float | None:
        """Return the BD-rate by a further quality model in percent; None where there is none."""
        return _percent(self.also.get(model))


def _percent(claim: BdRate | NoOverlap | None) -> float | None:
    return claim.percent if isinstance(claim, BdRate) else None


def diff_ladders(old: Path, new: Path) -> LadderDifference:
    """Compare the packages in two folders.

    Raises:
        BadInput: a folder holds no package, the packages are of different titles, or no VMAF model
            measured both.
    """
    old_package, new_package = Package.open(old), Package.open(new)
    before, after = old_package.ladder, new_package.ladder
    if before.title.sha256 != after.title.sha256:
        raise BadInput(
            f"{old} is of {before.title.source} and {new} of {after.title.source} (their content "
            "differs); name two ladders of one title"
        )
    common = [model for model in after.quality_models if model in before.quality_models]
    common.sort(key=is_judge)
    if not common or is_judge(common[0]):
        raise BadInput(
            f"{old} was measured by {', '.join(before.quality_models)} and {new} by "
            f"{', '.join(after.quality_models)}; run one again with --also MODEL of the other"
        )
    model = common[0]
    pairs = paired_rungs(before.rungs, after.rungs)
    return LadderDifference(
        title=after.title.source,
        quality_model=model,
        facts=_facts(old_package, new_package),
        bd_rate=bd_claim(_points(before, model), _points(after, model)),
        also={
            further: bd_claim(_points(before, further), _points(after, further))
            for further in common[1:]
        },
        rungs=tuple(_rung_change(*pair, model) for pair in pairs),
        shots=_shot_changes(before, after, pairs, model),
        cpu_seconds=(old_package.cpu_seconds, new_package.cpu_seconds),
        encodes=(before.search.encodes, after.search.encodes),
    )


def paired_rungs(
    old: Sequence[Rung], new: Sequence[Rung]
) -> tuple[tuple[Rung | None, Rung | None], ...]:
    """Pair the rungs of two ladders that are nearest in rate to each other, both ways.

    Returns:
        Pairs by ascending rate; a rung without a counterpart is paired with None.
    """

    def nearest(rung: Rung, others: Sequence[Rung]) -> int:
        return min(
            range(len(others)), key=lambda i: abs(math.log(others[i].bitrate / rung.bitrate))
        )

    to_new = [nearest(rung, new) for rung in old]
    to_old = [nearest(rung, old) for rung in new]
    pairs: list[tuple[Rung | None, Rung | None]] = []
    for number, rung in enumerate(old):
        mutual = to_old[to_new[number]] == number
        pairs.append((rung, new[to_new[number]] if mutual else None))
    pairs += [(None, rung) for number, rung in enumerate(new) if to_new[to_old[number]] != number]
    return tuple(sorted(pairs, key=lambda pair: (pair[1] or pair[0]).bitrate))  # type: ignore[union-attr]


def _rung_change(old: Rung | None, new: Rung | None, model: str) -> RungChange:
    if old is None or new is None:
        return RungChange(old, new, None, None)
    return RungChange(
        old,
        new,
        (new.bitrate / old.bitrate - 1) * 100,
        new.quality[model].mean - old.quality[model].mean,
    )


def _shot_changes(
    old: Ladder,
    new: Ladder,
    pairs: Sequence[tuple[Rung | None, Rung | None]],
    model: str,
) -> tuple[ShotChange, ...]:
    """Return the changes of all shots, worst first; () where the ladders have different shots."""
    paired = [(a, b) for a, b in pairs if a is not None and b is not None]
    bounds, new_bounds = (
        [(segment.start_frame, segment.end_frame) for segment in ladder.rungs[0].segments]
        for ladder in (old, new)
    )
    if bounds != new_bounds or not paired:
        return ()
    changes = []
    for shot, (start, end) in enumerate(bounds):
        claim = bd_claim(_shot_points(old, shot, model), _shot_points(new, shot, model))
        segments = [(a.segments[shot], b.segments[shot]) for a, b in paired]
        ratio = sum(b.bytes for _, b in segments) / sum(a.bytes for a, _ in segments)
        quality_changes = [b.quality[model] - a.quality[model] for a, b in segments]
        changes.append(
            ShotChange(
                shot=shot,
                start_frame=start,
                end_frame=end,
                bd_rate=_percent(claim),
                bytes_percent=(ratio - 1) * 100,
                quality_change=math.fsum(quality_changes) / len(quality_changes),
                worst_change=min(quality_changes),
            )
        )
    return tuple(sorted(changes, key=lambda change: -(change.bd_rate or 0.0)))


def _points(ladder: Ladder, model: str) -> list[RatePoint]:
    return [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in ladder.rungs]


def _shot_points(ladder: Ladder, shot: int, model: str) -> list[RatePoint]:
    segments = [rung.segments[shot] for rung in ladder.rungs]
    return [RatePoint(segment.bytes, segment.quality[model]) for segment in segments]


def _facts(old: Package, new: Package) -> dict[str, tuple[Any, Any]]:
    before, after = _made_with(old), _made_with(new)
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def _made_with(package: Package) -> dict[str, Any]:
    """Return how a ladder was made, by the names that people read."""
    ladder = package.ladder
    cost = ladder.locked_cost
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
            if cost is None or cost.bd_rate_percent is None
            else f"{cost.bd_rate_percent:.2f} ({cost.basis})"
        ),
    }


# -- many titles -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest changes with which an upgrade passes."""

    mean_bd_rate: float
    """Highest mean BD-rate over titles, in percent."""
    title_bd_rate: float
    """Highest BD-rate of a single title, in percent."""
    cpu_percent: float | None
    """Largest increase of CPU time in percent, over all titles whose CPU time is known on both
    sides; None is no limit."""

    def __post_init__(self) -> None:
        for name in ("mean_bd_rate", "title_bd_rate", "cpu_percent"):
            limit = getattr(self, name)
            if limit is not None and not math.isfinite(limit):
                raise BadInput(f"the limit {name} is {limit}; give a finite number of percent")


@dataclass(frozen=True, slots=True)
class MeanBdRate:
    """Mean of the titles' BD-rates by one quality model."""

    percent: float
    titles: int
    """Number of titles that have a BD-rate by the model."""


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The same titles under two versions or recipes."""

    titles: tuple[LadderDifference, ...]
    """Titles that both sides have, worst first."""
    only_old: tuple[str, ...]
    """Titles that the new side lacks."""
    only_new: tuple[str, ...]
    """Titles that the old side lacks."""
    mean_bd_rate: float | None
    """Mean BD-rate in percent, over the titles that have one; None where no title has one."""
    also: Mapping[str, MeanBdRate]
    """The same by each further quality model that measured both sides of a title. The limits are
    about :attr:`mean_bd_rate` alone."""
    cpu_percent: float | None
    """Change of CPU time in percent, over the titles whose CPU time is known on both sides."""
    cpu_titles: int
    """Number of those titles."""
    failures: tuple[str, ...]
    """Limits that are exceeded, in words; () where the upgrade passes."""


def upgrade_report(old: Path, new: Path, limits: Limits) -> UpgradeReport:
    """Compare two packages, or two folders of packages title by title.

    Raises:
        BadInput: a folder holds no package, the sides have no title in common, or the packages of a
            title cannot be compared.
    """
    before, after = find_packages(old), find_packages(new)
    names = {sha: read_ladder(path).title.source for sha, path in {**before, **after}.items()}
    shared = [sha for sha in before if sha in after]
    if not shared:
        raise BadInput(f"{old} and {new} hold no title in common; name ladders of the same titles")
    differences = [diff_ladders(before[sha], after[sha]) for sha in shared]
    titles = tuple(sorted(differences, key=lambda title: -(title.percent or 0.0)))
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
        also=_means(titles),
        cpu_percent=cpu,
        cpu_titles=len(costs),
        failures=tuple(_failures(titles, only_old, mean, cpu, limits)),
    )


def _means(titles: Sequence[LadderDifference]) -> dict[str, MeanBdRate]:
    """Return the mean BD-rate by each further quality model, judges last."""
    models = sorted({model for title in titles for model in title.also})
    means = {}
    for model in sorted(models, key=is_judge):
        percents = [p for title in titles if (p := title.percent_by(model)) is not None]
        if percents:
            means[model] = MeanBdRate(math.fsum(percents) / len(percents), len(percents))
    return means


def _failures(
    titles: Sequence[LadderDifference],
    only_old: Sequence[str],
    mean: float | None,
    cpu: float | None,
    limits: Limits,
) -> Iterator[str]:
    if mean is not None and mean > limits.mean_bd_rate:
        yield f"mean BD-rate {mean:+.2f} % is over {limits.mean_bd_rate:g} %"
    for title in titles:
        if title.percent is None:
            yield f"{title.title} has no BD-rate: {title.bd_rate or 'a ladder has too few rungs'}"
        elif title.percent > limits.title_bd_rate:
            limit = limits.title_bd_rate
            yield f"{title.title}: BD-rate {title.percent:+.2f} % is over {limit:g} %"
    if only_old:
        yield f"missing on the new side: {', '.join(only_old)}"
    if limits.cpu_percent is not None:
        if cpu is None:
            yield "CPU time cannot be compared: no title was made from an empty store both times"
        elif cpu > limits.cpu_percent:
            yield f"CPU time {cpu:+.1f} % is over {limits.cpu_percent:g} %"


def find_packages(folder: Path) -> dict[str, Path]:
    """Return the packages in a folder, or the folder itself if that is one, by source SHA-256.

    Raises:
        BadInput: there is no package, or there are two of one title.
    """
    if (folder / "ladder.json").exists():
        return {read_ladder(folder).title.sha256: folder}
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; name a package or a folder of packages")
    packages: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not (path / "ladder.json").exists():
            continue
        sha256 = read_ladder(path).title.sha256
        if sha256 in packages:
            raise BadInput(
                f"{packages[sha256]} and {path} are of one title; keep one of each title on a side"
            )
        packages[sha256] = path
    if not packages:
        raise BadInput(f"{folder} holds no package; name a package or a folder of packages")
    return packages
