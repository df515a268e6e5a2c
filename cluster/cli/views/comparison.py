"""How a comparison looks: the three claims together, for each quality model separately."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.views.tables import Column, facts, kbits, table
from cluster.package.comparison import CodecComparison, ComparedRung, Comparison
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import AFFORDABLE, TOLERANCE, Claims, ViewersClaim

_LADDERS = {"ours": "ours", "fixed": "fixed", "per_title": "per-title CRF"}
_NOTES = (
    "BD-rate: negative is fewer bits at equal quality. Viewers: throughput is log-normal with this "
    f"median, and each viewer plays the highest rung under {AFFORDABLE:g} of it. bits, quality: "
    "change against what the fixed ladder gives them. not worse: change in bits when each viewer "
    f"plays the cheapest rung that loses at most {TOLERANCE:g}. worse off: viewers who lose more "
    "even so; at worst: the largest loss of a viewer."
)


def comparison_view(comparison: Comparison, *, rungs: bool = False) -> list[RenderableType]:
    """Show the claims; with ``rungs`` all three ladders before them."""
    limit = ", which is the limit for these sizes and recipes" if comparison.exhaustive else ""
    article = "an" if comparison.exhaustive else "a"
    parts: list[RenderableType] = [
        Text(
            f"{comparison.title}: bits on disk and measured quality, each baseline rung encoded "
            f"in one process. Ours is from {article} {comparison.search} search{limit}."
        )
    ]
    if rungs:
        for name, label in _LADDERS.items():
            parts += [Text(), _rungs(label, getattr(comparison, name))]
    for model, claims in comparison.claims.items():
        parts += [
            *(Text(), Text(model, style="bold")),
            *_claims(claims, " (bounded)" if comparison.bounds else ""),
        ]
    if comparison.codecs:
        heading = Text(f"codecs, by {comparison.quality_model}", style="bold")
        parts += [Text(), heading, table(_CODECS, comparison.codecs)]
    for bound in comparison.bounds:
        parts += [Text(), Text(f"Bounded: {bound}.")]
    return [*parts, Text(), Text(_NOTES, style="dim")]


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


def _claims(claims: Claims, mark: str) -> Iterator[RenderableType]:
    yield facts(
        [
            ("1", "BD-rate against the fixed ladder", _bd(claims.against_fixed)),
            ("2", f"BD-rate against per-title CRF{mark}", _bd(claims.against_per_title)),
        ]
    )
    yield Text("3  what viewers receive, against the fixed ladder")
    yield viewers_table(claims.viewers)


def _bd(claim: BdRate | NoOverlap | None) -> str:
    match claim:
        case BdRate():
            return f"{claim.percent:+.1f} %  (quality {claim.low:.1f} to {claim.high:.1f})"
        case NoOverlap():
            return str(claim)
    return "none: a ladder has too few rungs"


def _rungs(label: str, rungs: tuple[ComparedRung, ...]) -> Table:
    def mean_by(model: str) -> Column[ComparedRung]:
        return Column(model, lambda rung: rung.quality[model].mean, ".2f")

    columns: list[Column[ComparedRung]] = [
        Column(label, lambda rung: rung.name, left=True),
        Column("kbit/s", lambda rung: kbits(rung.bitrate)),
        *(mean_by(model) for model in (rungs[0].quality if rungs else ())),
    ]
    return table(columns, rungs)


def comparison_lines(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a comparison as NDJSON: ``compared_rung`` objects, then one ``claims`` per model."""
    for name in _LADDERS:
        for rung in getattr(comparison, name):
            yield (
                "compared_rung",
                {
                    "ladder": name,
                    "name": rung.name,
                    "width": rung.width,
                    "height": rung.height,
                    "bitrate": round(rung.bitrate),
                    "quality": {model: q.model_dump() for model, q in rung.quality.items()},
                },
            )
    for codec in comparison.codecs:
        yield "codec", asdict(codec)
    for model, claims in comparison.claims.items():
        yield (
            "claims",
            {
                "quality_model": model,
                "against_fixed": _bd_fields(claims.against_fixed),
                "against_per_title": _bd_fields(claims.against_per_title),
                "bounds": list(comparison.bounds),
                "viewers": [
                    {
                        **asdict(viewers),
                        "received_percent": viewers.received_percent,
                        "matched_percent": viewers.matched_percent,
                    }
                    for viewers in claims.viewers
                ],
            },
        )


def _bd_fields(claim: BdRate | NoOverlap | None) -> dict[str, Any] | None:
    return None if claim is None else asdict(claim)
