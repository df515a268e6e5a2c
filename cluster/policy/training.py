"""Trains a policy on the hours of the log that it has not learned from yet."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cluster.policy.files import ContextScale, TrainedPolicy
from cluster.policy.logbook import Logbook, Tried
from cluster.policy.place import hour_end
from cluster.policy.registry import Registry
from encoder.errors import BadInput
from recommender.policy.features import FEATURES
from recommender.policy.learning import SETTLED, Learner
from recommender.policy.trials import Trials

MIN_TRIALS: Final = 200
"""Pictures on the screen below which training refuses."""
MIN_SHARE: Final = 0.01
"""Share of the decisions that must have a context feature for a policy to use it."""
FORGET_DAYS: Final = 180.0
"""Time after which titles and pictures that nobody was shown leave a policy."""
_MAX_DAYS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Training:
    """What training did."""

    policy: TrainedPolicy
    path: Path
    hours: int
    """Hours that were learned from now."""
    trials: int
    """Pictures on the screen in them."""
    taken: float
    """Share of them whose title was taken."""
    ignored_context: tuple[str, ...]
    """Context features of the log that the policy does not use, since its parent did not know them
    or hardly any decision has them."""


def train(
    logbook: Logbook, registry: Registry, *, settled_until: float, anew: bool = False
) -> Training:
    """Train a policy and write its file. The same hours give the same file.

    Training goes on from the policy that was trained last, with the hours that it does not know. It
    begins anew with ``anew``, if there is none, or while the parent has learned too little to know
    how strong effects are.

    Args:
        logbook: the log.
        registry: the policies.
        settled_until: hours that ended before this moment are learned from: later ones may still
            get outcomes, and would teach that nobody takes anything.
        anew: True to learn from all hours again.

    Raises:
        BadInput: there is too little to learn from.
    """
    names = registry.names()
    parent = None if anew or not names else registry.policy(names[-1])
    if parent is not None and parent.trials < SETTLED:
        parent = None
    known = () if parent is None else parent.hours
    hours = [hour for hour in logbook.hours(until=settled_until) if hour not in set(known)]
    batches = [(hour, logbook.tried([hour])) for hour in hours]
    tried = [one for _, batch in batches for one in batch]
    if len(tried) < MIN_TRIALS:
        raise BadInput(
            f"the log has {len(tried)} pictures on the screen that no policy has learned from, in "
            f"{len(hours)} hours whose outcomes are settled; training needs {MIN_TRIALS}: report "
            "`shown`, and wait for more"
        )
    scale = _scale(tried) if parent is None else parent.context
    policy = _learned(batches, scale, parent)
    used = {name for one in tried for name in one.decision.context}
    return Training(
        policy=policy,
        path=policy.write(registry.place.policies),
        hours=len(hours),
        trials=len(tried),
        taken=float(np.mean([one.reward for one in tried])),
        ignored_context=tuple(sorted(used - set(scale.names))),
    )


def _learned(
    batches: Sequence[tuple[str, list[Tried]]], scale: ContextScale, parent: TrainedPolicy | None
) -> TrainedPolicy:
    if parent is None:
        learner = Learner.untrained(len(FEATURES), len(scale.names))
        last = None
    else:
        learner = Learner([copy.deepcopy(parent.effects)])
        last = hour_end(parent.hours[-1])
    for hour, batch in batches:
        end = hour_end(hour)
        days = 1 / 24 if last is None else min(max((end - last) / 86400, 0.0), _MAX_DAYS)
        if batch:
            learner.learn(_trials(batch, scale), days=days)
            last = end
    effects = learner.best
    effects.forget(FORGET_DAYS)
    before = () if parent is None else parent.hours
    count = sum(len(batch) for _, batch in batches)
    return TrainedPolicy(
        effects=effects,
        context=scale,
        parent=None if parent is None else parent.name,
        hours=tuple(sorted({*before, *(hour for hour, _ in batches)})),
        trials=count + (0 if parent is None else parent.trials),
        loss=effects.loss / max(effects.seen, 1),
    )


def _trials(batch: Sequence[Tried], scale: ContextScale) -> Trials:
    return Trials(
        titles=tuple(one.decision.title for one in batch),
        actions=tuple(one.decision.action_id for one in batch),
        features=np.array([one.pictures.features[one.position] for one in batch]),
        context=np.array([scale.scaled(one.decision.context) for one in batch]).reshape(
            len(batch), -1
        ),
        rewards=np.array([one.reward for one in batch]),
    )


def _scale(tried: Sequence[Tried]) -> ContextScale:
    """Return the context features that decisions have, with their means and deviations."""
    values: dict[str, list[float]] = {}
    for one in tried:
        for name, value in one.decision.context.items():
            values.setdefault(name, []).append(value)
    names = sorted(name for name, found in values.items() if len(found) >= MIN_SHARE * len(tried))
    return ContextScale(
        tuple(names),
        tuple(float(np.mean(values[name])) for name in names),
        tuple(float(np.std(values[name])) or 1.0 for name in names),
    )
