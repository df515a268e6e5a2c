"""Views of policies: what they would earn, what they learned, which one is live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from cluster.cli.views.tables import Column, facts, table

if TYPE_CHECKING:
    from cluster.policy.evaluation import Evaluation
    from cluster.policy.files import TrainedPolicy
    from cluster.policy.training import Training
    from recommender.policy.contrast import Contrast
    from recommender.policy.drift import Drift
    from recommender.policy.estimates import Interval
    from recommender.policy.gate import Verdict
    from recommender.policy.simulation import Simulated

_SHOWN_DRIFTS = 10


def simulated_view(results: Sequence[Simulated]) -> Iterator[RenderableType]:
    """Draw take rates of simulated policies."""

    def last(one: Simulated) -> float:
        tenth = max(len(one.rates) // 10, 1)
        return sum(one.rates[-tenth:]) / tenth

    columns: list[Column[Simulated]] = [
        Column("policy", lambda one: one.policy, left=True),
        Column("first day", lambda one: one.rates[0], ".4f"),
        Column("all days", lambda one: sum(one.rates) / len(one.rates), ".4f"),
        Column("last tenth", last, ".4f"),
        Column("mean weight", lambda one: one.mean_weight, ".2f"),
    ]
    yield table(columns, results)
    yield "Take rates on made-up viewers; `best` is what nobody can know."


def trained_view(trained: Training) -> Iterator[RenderableType]:
    """Draw what training did."""
    policy = trained.policy
    rows = [
        ("policy", policy.name),
        ("file", str(trained.path)),
        ("goes on from", policy.parent or "nothing"),
        ("learned now", f"{trained.trials} pictures on the screen, in {trained.hours} hours"),
        ("taken", f"{trained.taken:.4f}"),
        ("learned in all", f"{policy.trials} pictures, in {len(policy.hours)} hours"),
        ("knows", f"{len(policy.effects.titles)} titles, {len(policy.effects.pictures)} pictures"),
        ("loss", f"{policy.loss:.4f} nats, each predicted before it was learned from"),
    ]
    yield facts(rows)
    if trained.ignored_context:
        yield (
            f"Not used, since too rare or new: context {', '.join(trained.ignored_context)}. "
            "`--anew` takes new ones into account."
        )


@dataclass(frozen=True, slots=True)
class _Line:
    policy: str
    estimator: str
    interval: Interval
    effective: float | None
    weight: float | None


def evaluated_view(found: Evaluation) -> Iterator[RenderableType]:
    """Draw estimates of policies, and the gain over the incumbent."""
    yield (
        f"{found.decisions} pictures on the screen of {found.clusters} viewers and days, in "
        f"{len(found.hours)} hours that none of these policies learned from"
    )
    yield table(_columns(), _lines(found))
    others = [one.policy for one in found.policies[1:]]
    if others:
        yield f"Gain over {others[-1]}, by DR: {_interval(found.gain)}"


def promoted_view(name: str, verdict: Verdict, found: Evaluation) -> Iterator[RenderableType]:
    """Draw whether a policy was promoted, and by which numbers."""
    yield from evaluated_view(found)
    yield (
        f"Question {verdict.asked} about this incumbent, at a confidence of "
        f"{100 * verdict.confidence:.2f} %"
    )
    if verdict.passed:
        yield f"{name} is live from the next day on."


def policies_view(
    policies: Sequence[tuple[str, TrainedPolicy]],
    about: Mapping[str, Any],
    contrasts: Sequence[Contrast],
    moved: Sequence[Drift],
) -> Iterator[RenderableType]:
    """Draw the policies, contrasts and drifts."""
    yield facts(
        [
            ("live today", str(about["live"])),
            ("promoted last", str(about["promoted"])),
            ("shadow", about["shadow"] or "none"),
            ("log", f"{about['hours']} hours, of which {about['settled_hours']} are settled"),
        ]
    )
    if policies:
        columns: list[Column[tuple[str, TrainedPolicy]]] = [
            Column("policy", lambda one: one[0], left=True),
            Column("hours", lambda one: len(one[1].hours)),
            Column("pictures shown", lambda one: one[1].trials),
            Column("loss", lambda one: one[1].loss, ".4f"),
            Column("goes on from", lambda one: one[1].parent, left=True),
        ]
        yield table(columns, policies)
    for one in contrasts:
        yield from _contrast(one)
    if moved:
        drifts: list[Column[Drift]] = [
            Column("feature", lambda one: one.name, left=True),
            Column("before", lambda one: one.before, ".3f"),
            Column("now", lambda one: one.now, ".3f"),
            Column("shift in deviations", lambda one: one.shift, "+.2f"),
            Column("stability index", lambda one: one.stability, ".3f"),
            Column("", lambda one: "shifted" if one.shifted else "", left=True),
        ]
        yield table(drifts, moved[:_SHOWN_DRIFTS])


def _contrast(one: Contrast) -> Iterator[RenderableType]:
    yield (
        f"Contrast of {one.property}: {_interval(one.difference)} of the take rate per standard "
        f"deviation, with all that comes with it"
    )
    yield f"  with the other properties held constant: {_interval(one.adjusted)}"
    names = ", ".join(f"{name} ({value:+.2f})" for name, value in one.confounded_with[:6])
    yield f"  confounded with: {names or 'nothing that correlates by 0.1 or more'}"


def _columns() -> list[Column[_Line]]:
    return [
        Column("policy", lambda one: one.policy, left=True),
        Column("estimator", lambda one: one.estimator, left=True),
        Column("take rate", lambda one: one.interval.mean, ".4f"),
        Column("low", lambda one: one.interval.low, ".4f"),
        Column("high", lambda one: one.interval.high, ".4f"),
        Column("effective decisions", lambda one: one.effective, ".0f"),
        Column("mean weight", lambda one: one.weight, ".2f"),
    ]


def _lines(found: Evaluation) -> Iterator[_Line]:
    yield _Line("as logged", "mean", found.logged, None, None)
    for one in found.policies:
        for each in one.estimates:
            yield _Line(
                one.policy, each.estimator, each.interval, each.effective_size, each.mean_weight
            )


def _interval(found: Interval) -> str:
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
