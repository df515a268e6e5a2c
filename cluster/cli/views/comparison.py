"""How a comparison looks: the three claims together, by every judge, for each codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.views.receipts import classes_parts, payback_parts
from cluster.cli.views.tables import Column, kbits, table
from cluster.package import verdict
from cluster.package.comparison import (
    ALL,
    Against,
    CodecComparison,
    ComparedLadder,
    ComparedPart,
    ComparedRung,
    Comparison,
    LadderName,
)
from cluster.package.receipts import Receipts, receipts_fields
from cluster.package.verdict import Egress
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import Claims, ViewersClaim
from ladder.viewers import AFFORDABLE, TOLERANCE

SLIVER = 0.25
"""Share of the other ladder's range of quality under which a BD-rate is said to be about little."""

AGAINST: dict[Against, tuple[str, str]] = {
    "against_fixed": ("fixed ladder", "the fixed ladder"),
    "against_per_title": ("per-title, same", "per-title CRF by the same recipe"),
    "against_plain_per_title": ("per-title, plain", "per-title CRF by a plain encoder"),
}
"""The ladders of the BD-rates: as a table's heading, and in words."""

_LABELS: dict[LadderName, str] = {
    "ours": "ours",
    "fixed": "fixed ladder",
    "per_title": "per-title CRF",
    "plain_per_title": "per-title CRF",
}
_NOTES = (
    "BD-rate: negative is fewer bits at equal quality, over the qualities of both ladders. "
    "Per-title ladders are the best encodes of the whole title, by size and CRF, with our "
    "keyframes: by the same recipe they show what choosing by shots saves, by the plain one what "
    "the whole saves. Viewers: throughput is log-normal with this "
    f"median, and each viewer plays the highest rung under {AFFORDABLE:g} of it. bits, quality: "
    "change against what the fixed ladder gives them. not worse: change in bits when each viewer "
    f"plays the cheapest rung that loses at most {TOLERANCE:g}. worse off: viewers who lose more "
    "even so; at worst: the largest loss of a viewer."
)


def comparison_view(comparison: Comparison, *, rungs: bool = False) -> list[RenderableType]:
    """Show what it comes to and the claims; with ``rungs`` all ladders before them."""
    fixed = verdict.other_ladder(comparison)
    limit = ", which is the limit for these sizes and recipes" if comparison.exhaustive else ""
    article = "an" if comparison.exhaustive else "a"
    plain = comparison.plain_per_title.recipe
    passes = "" if comparison.fixed.recipe != plain else f", in {fixed} with two passes"
    parts: list[RenderableType] = [
        Text(f"{comparison.title}: {verdict.sentence(comparison)}", style="bold"),
        Text(),
        Text(
            "Bits on disk and measured quality, each baseline rung encoded in one process. Ours is "
            f"from {article} {comparison.search} search{limit}. Plain is {plain}{passes}."
        ),
    ]
    if rungs:
        for name, _, ladder in comparison.ladders:
            own = name == "fixed" and comparison.baseline
            parts += [Text(), _rungs(f"{own or _LABELS[name]}, {ladder.recipe}", ladder)]
    for part in comparison.parts:
        parts += [Text(), *_part(part, comparison)]
    if comparison.receipts is not None:
        parts += _receipts(comparison.receipts, comparison.quality_model, fixed)
    if comparison.codecs:
        heading = Text(f"codecs, by {comparison.quality_model}", style="bold")
        parts += [Text(), heading, table(_CODECS, comparison.codecs)]
    if taken := verdict.egress(comparison):
        parts += [
            Text(),
            Text(f"egress of {verdict.WATCHED_HOURS:,} hours watched", style="bold"),
            _egress(taken, fixed),
        ]
    if why := list(verdict.reasons(comparison)):
        parts += [Text(), Text("why these figures differ", style="bold"), *map(Text, why)]
    return [*parts, Text(), Text(_NOTES.replace("the fixed ladder", fixed), style="dim")]


def _egress(taken: Sequence[Egress], fixed: str) -> Table:
    columns: list[Column[Egress]] = [
        Column("median", lambda one: one.median / 1e6, "g", " Mbit/s"),
        Column(fixed.removeprefix("the "), lambda one: one.before_gb, ",.0f", " GB"),
        Column("ours", lambda one: one.ours_gb, ",.0f", " GB"),
        Column("no better quality", lambda one: one.equal_gb, ",.0f", " GB"),
        Column(f"saved at {taken[0].price:g}/GB", lambda one: one.saved, ",.2f"),
    ]
    return table(columns, taken)


HARDLY_ANYBODY = 0.0005
"""Share of viewers under which it is shown as nobody."""
_CODECS: list[Column[CodecComparison]] = [
    Column("BD-rate of", lambda codec: codec.test, left=True),
    Column("against", lambda codec: codec.anchor, left=True),
    Column(
        "",
        lambda codec: "no common quality" if codec.percent is None else f"{codec.percent:+.1f} %",
    ),
]
_VIEWERS: list[Column[ViewersClaim]] = [
    Column("median", lambda claim: claim.median / 1e6, "g", " Mbit/s"),
    Column("bits", lambda claim: claim.received_percent, "+.1f", " %"),
    Column("quality", lambda claim: claim.received.quality - claim.fixed.quality, "+.2f"),
    Column("not worse", lambda claim: claim.matched_percent, "+.1f", " %"),
    Column("worse off", lambda claim: 100 * claim.worse_off, ".1f", " %"),
    Column("at worst", lambda claim: f"{-claim.worst_loss:.2f}" if claim.worst_loss else "0"),
]


def viewers_table(claims: tuple[ViewersClaim, ...], *, matched: bool = True) -> Table:
    """Show what populations of viewers receive, with the column ``not worse`` if ``matched``."""
    return table([c for c in _VIEWERS if matched or c.heading != "not worse"], claims)


def saved_in_one_line(claims: Sequence[ViewersClaim]) -> str:
    """Say what viewers receive, with the quality beside it and who pays for it."""

    def listed(values: Iterable[str]) -> str:
        return " / ".join(values)

    worst = max(claims, key=lambda claim: claim.worse_off)
    harm = (
        f"up to {100 * worst.worse_off:.1f} % of them lose more than {TOLERANCE:g} points"
        if worst.worse_off >= HARDLY_ANYBODY
        else f"nobody loses more than {TOLERANCE:g} points"
    )
    bits = listed(f"{claim.received_percent:+.1f}" for claim in claims)
    matched = listed(f"{claim.matched_percent:+.1f}" for claim in claims)
    quality = listed(f"{claim.received.quality - claim.fixed.quality:+.2f}" for claim in claims)
    medians = listed(f"{claim.median / 1e6:g}" for claim in claims)
    return (
        f"With medians of {medians} Mbit/s they receive {bits} % bits at {quality} points "
        f"({matched} % at no better quality than before); {harm}."
    )


def _receipts(receipts: Receipts, quality_model: str, fixed: str) -> Iterator[RenderableType]:
    classes = list(classes_parts(receipts))
    yield from classes
    if classes and (claims := receipts.audience[quality_model].viewers):
        yield Text(f"3  what all of them receive, against {fixed}, by {quality_model}")
        yield Text(saved_in_one_line(claims))
        yield viewers_table(claims)
    yield from payback_parts(receipts, quality_model)


def _part(part: ComparedPart, comparison: Comparison) -> Iterator[RenderableType]:
    labels = against_labels(comparison.baseline)
    yield Text("all codecs together" if part.name == ALL else part.ours.recipe, style="bold")
    stated = [
        against
        for against in AGAINST
        if against != "against_per_title" or part.per_title is not None
    ]
    rows: list[tuple[str, list[str | None]]] = [
        (model, [_percent(getattr(claims, against)) for against in stated])
        for model, claims in part.claims.items()
    ]
    if comparison.judges:
        least = [part.least(against, comparison.judges) for against in stated]
        rows.append(("the least of the judges", [found and _percent(found[1]) for found in least]))
    yield table(
        [
            Column("1, 2  BD-rate by", lambda row: row[0], left=True),
            *(_against(number, labels[each][0]) for number, each in enumerate(stated)),
        ],
        rows,
    )
    for against in stated:
        found = getattr(part.claims[comparison.quality_model], against)
        yield Text(_range(labels[against][1], found), style="dim")
        for model, claims in part.claims.items():
            other = getattr(claims, against)
            if isinstance(other, NoOverlap) and model != comparison.quality_model:
                yield Text(f"{labels[against][1]}, by {model}: {other}", style="dim")
    for model, claims in part.claims.items():
        if claims.viewers and model == comparison.quality_model:
            yield Text(f"3  what viewers receive, against {labels['against_fixed'][1]}, by {model}")
            yield Text(saved_in_one_line(claims.viewers))
            yield viewers_table(claims.viewers)
        elif claims.viewers:
            yield Text(f"By {model}: {saved_in_one_line(claims.viewers)}")


def against_labels(baseline: str | None) -> dict[Against, tuple[str, str]]:
    """Return :data:`AGAINST` with the user's own ladder in place of the fixed one."""
    return AGAINST if baseline is None else AGAINST | {"against_fixed": (baseline, baseline)}


def _against(number: int, heading: str) -> Column[tuple[str, list[str | None]]]:
    return Column(heading, lambda row: row[1][number])


def _percent(claim: BdRate | NoOverlap | None) -> str | None:
    return f"{claim.percent:+.1f} %" if isinstance(claim, BdRate) else None


def _range(label: str, claim: BdRate | NoOverlap | None) -> str:
    """Say which qualities the BD-rate against a ladder is about, and how much of it that is."""
    match claim:
        case BdRate() if claim.low == claim.high:
            return f"{label}: at quality {claim.low:.1f}, of a single rung"
        case BdRate():
            low, high = claim.anchor
            share = f"{100 * claim.share_of_anchor:.0f} % of its {low:.1f} to {high:.1f}"
            little = ", which is little" if claim.share_of_anchor < SLIVER else ""
            return f"{label}: over quality {claim.low:.1f} to {claim.high:.1f}, {share}{little}"
        case NoOverlap():
            return f"{label}: {claim}"
    return f"{label}: none, because both ladders have a single rung"


def _rungs(label: str, ladder: ComparedLadder) -> Table:
    def mean_by(model: str) -> Column[ComparedRung]:
        return Column(model, lambda rung: rung.quality[model].mean, ".2f")

    rungs = ladder.rungs
    columns: list[Column[ComparedRung]] = [
        Column("rung", lambda rung: rung.name, left=True),
        Column("kbit/s", lambda rung: kbits(rung.bitrate)),
        *(mean_by(model) for model in (rungs[0].quality if rungs else ())),
    ]
    drawn = table(columns, rungs)
    drawn.title, drawn.title_justify, drawn.title_style = label, "left", ""
    return drawn


def comparison_lines(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a comparison as NDJSON: ``compared_rung`` objects, then ``claims`` and ``least``."""
    for name, codec, ladder in comparison.ladders:
        for rung in ladder.rungs:
            yield (
                "compared_rung",
                {
                    "ladder": name,
                    "codec": codec,
                    "recipe": ladder.recipe,
                    "name": rung.name,
                    "width": rung.width,
                    "height": rung.height,
                    "bitrate": round(rung.bitrate),
                    "quality": {model: q.model_dump() for model, q in rung.quality.items()},
                },
            )
    for compared in comparison.codecs:
        yield "codec", asdict(compared)
    for part in comparison.parts:
        for model, claims in part.claims.items():
            yield "claims", {"codec": part.name, "quality_model": model, **_claims_fields(claims)}
        yield "least", {"codec": part.name, **_least_fields(part, comparison.judges)}
    if comparison.receipts is not None:
        yield "receipts", receipts_fields(comparison.receipts)
    yield (
        "verdict",
        {
            "sentence": verdict.sentence(comparison),
            "baseline": comparison.baseline,
            "egress": [{**asdict(one), "saved": one.saved} for one in verdict.egress(comparison)],
            "reasons": list(verdict.reasons(comparison)),
        },
    )


def _claims_fields(claims: Claims) -> dict[str, Any]:
    return {
        **{against: _bd_fields(getattr(claims, against)) for against in AGAINST},
        "viewers": [
            {
                **asdict(viewers),
                "received_percent": viewers.received_percent,
                "matched_percent": viewers.matched_percent,
            }
            for viewers in claims.viewers
        ],
    }


def _least_fields(part: ComparedPart, judges: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for against in AGAINST:
        found = part.least(against, judges)
        fields[against] = found and {"quality_model": found[0], "percent": found[1].percent}
    return fields


def _bd_fields(claim: BdRate | NoOverlap | None) -> dict[str, Any] | None:
    return None if claim is None else asdict(claim)
