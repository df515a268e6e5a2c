"""What a comparison comes to in one sentence, and why its figures differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.package.comparison import ComparedPart, Comparison
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import ViewersClaim
from ladder.payback import Prices

WATCHED_HOURS = 1000
"""Hours of viewing that egress is stated for."""
_HARDLY = 0.05
"""Percent or points under which a difference is none."""


@dataclass(frozen=True, slots=True)
class Egress:
    """What viewers of one population take in :data:`WATCHED_HOURS`."""

    median: float
    """Median throughput in bit/s."""
    before_gb: float
    """10^9 bytes from the ladder that is compared with."""
    ours_gb: float
    """10^9 bytes from ours, as delivered."""
    equal_gb: float
    """10^9 bytes from ours where nobody gets better quality than before."""
    price: float
    """Price of 10^9 bytes."""

    @property
    def saved(self) -> float:
        """Price of what is saved as delivered; negative where it is more."""
        return (self.before_gb - self.ours_gb) * self.price


def whole(comparison: Comparison) -> ComparedPart:
    """Return the part about all rungs of the package."""
    return comparison.parts[-1]


def other_ladder(comparison: Comparison) -> str:
    """Return what the ladder that is compared with is called."""
    return comparison.baseline or "the fixed ladder"


def egress(comparison: Comparison) -> tuple[Egress, ...]:
    """Return what viewers take, by their median throughput."""
    prices = comparison.receipts.prices if comparison.receipts else Prices()

    def gigabytes(rate: float) -> float:
        return rate * 3600 * WATCHED_HOURS / 8 / 1e9

    return tuple(
        Egress(
            claim.median,
            gigabytes(claim.fixed.rate),
            gigabytes(claim.received.rate),
            gigabytes(claim.matched.rate),
            prices.egress_per_gb,
        )
        for claim in whole(comparison).claims[comparison.quality_model].viewers
    )


def sentence(comparison: Comparison) -> str:
    """Say at equal quality, as delivered, and what it costs, in one sentence."""
    part, model = whole(comparison), comparison.quality_model
    claims, other = part.claims[model], other_ladder(comparison)
    parts = [f"At equal quality this ladder {_equal(claims.against_fixed, part, comparison)}"]
    if claims.viewers:
        parts.append(f"as delivered, {_delivered(claims.viewers)}")
    return "; ".join([*parts, _cost(comparison)]).replace("OTHER", other) + "."


def _equal(claim: BdRate | NoOverlap | None, part: ComparedPart, comparison: Comparison) -> str:
    if not isinstance(claim, BdRate):
        return "has no quality in common with OTHER"
    least = part.least("against_fixed", comparison.judges)
    by = "" if least is None else f" ({_percent(least[1].percent)} by the least of the judges)"
    than = "as" if abs(claim.percent) < _HARDLY else "than"
    return f"takes {_change(claim.percent)} {than} OTHER{by}"


def _delivered(viewers: tuple[ViewersClaim, ...]) -> str:
    bits = " / ".join(f"{claim.received_percent:+.0f}" for claim in viewers)
    points = " / ".join(f"{claim.received.quality - claim.fixed.quality:+.1f}" for claim in viewers)
    medians = " / ".join(f"{claim.median / 1e6:g}" for claim in viewers)
    return f"viewers with medians of {medians} Mbit/s receive {bits} % bits at {points} points"


def _cost(comparison: Comparison) -> str:
    paybacks = comparison.receipts.paybacks if comparison.receipts else ()
    if not paybacks:
        return "what it cost is not known"
    middle = paybacks[len(paybacks) // 2]
    found = middle.by_model
    cost = f"it cost {found.cpu_hours:.3g} CPU hours ({found.cost:.2g})"
    if found.views is None:
        return f"{cost}, which no number of views pays"
    views = max(1, round(found.views))
    return (
        f"{cost}, paid after {views:,} view{'s' * (views != 1)} at {middle.median / 1e6:g} Mbit/s"
    )


def reasons(comparison: Comparison) -> Iterator[str]:
    """Say why the figures at equal quality and as delivered differ, and what the saving is of."""
    part, model = whole(comparison), comparison.quality_model
    claims = part.claims[model]
    yield from _why_delivered(claims.against_fixed, claims.viewers, other_ladder(comparison))
    yield from _steps(comparison)


def _why_delivered(
    equal: BdRate | NoOverlap | None, viewers: tuple[ViewersClaim, ...], other: str
) -> Iterator[str]:
    if not isinstance(equal, BdRate) or not viewers:
        return
    yield (
        f"Equal quality compares all rates at which both ladders reach {equal.low:.0f} to "
        f"{equal.high:.0f}; as delivered compares the rungs that viewers play."
    )
    for claim in viewers:
        gained = claim.received.quality - claim.fixed.quality
        spent = claim.received_percent - claim.matched_percent
        median = f"At a median of {claim.median / 1e6:g} Mbit/s"
        if gained > _HARDLY and spent > _HARDLY:
            yield (
                f"{median} part of the saving is spent on quality: viewers get {gained:.1f} points "
                f"more than from {other}; at no better quality than before it would be "
                f"{_percent(claim.matched_percent)}."
            )
        elif gained > _HARDLY:
            yield (
                f"{median} the saving is taken as quality: viewers get {gained:.1f} points more "
                f"than from {other}, and there is no cheaper rung that is as good as before."
            )
        elif gained < -_HARDLY:
            yield (
                f"{median} viewers get {-gained:.1f} points less than from {other}, so not all of "
                "the difference in bits is saved."
            )
        else:
            yield f"{median} the rungs lie where viewers get the same quality as before."


def _steps(comparison: Comparison) -> Iterator[str]:
    """Divide the saving against the other ladder into what each step from it to ours brings."""
    for part in comparison.parts:
        claims = part.claims[comparison.quality_model]
        fixed, plain, same = (
            found.percent if isinstance(found, BdRate) else None
            for found in (
                claims.against_fixed,
                claims.against_plain_per_title,
                claims.against_per_title,
            )
        )
        if fixed is None or plain is None or same is None:
            continue
        of = f"{part.name}: of " if len(comparison.parts) > 1 else "Of "
        sizes = ((1 + fixed / 100) / (1 + plain / 100) - 1) * 100
        settings = ((1 + plain / 100) / (1 + same / 100) - 1) * 100
        yield (
            f"{of}{_percent(fixed)} at equal quality, rates and sizes chosen for the title bring "
            f"about {_percent(sizes)}, encoder settings {_percent(settings)}, the choice by shots "
            f"{_percent(same)} (factors that multiply; each is over the qualities of its own pair)."
        )


def _change(percent: float) -> str:
    if abs(percent) < _HARDLY:
        return "as many bits"
    return f"{abs(percent):.1f} % {'fewer' if percent < 0 else 'more'} bits"


def _percent(percent: float) -> str:
    return f"{percent:+.1f} %"
