"""How the answer to ``what-if`` looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.views.ladder import kbits, plain_table, predictor
from cluster.jobs.whatif import WhatIf
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import AFFORDABLE


def whatif_view(found: WhatIf) -> list[RenderableType]:
    """The rungs that would be, beside what there is."""
    asked = ", ".join(
        f"{name.replace('_', ' ')} {_said(name, value)}" for name, value in found.asked.items()
    )
    by = found.quality_model
    if found.basis == "predicted":
        basis = f"predicted by {predictor(found.predictor)}, corrected by all measurements"
    else:
        basis = "measured points and what lies between two of them (interpolated)"
    top, was = found.rungs[-1], found.delivered[-1]
    if not found.changes:
        return [
            Text(f"{found.title}: what if {asked}"),
            Text(f"policy {found.policy}; quality is {by}; {basis}", style="dim"),
            Text(),
            Text(
                "That changes nothing: the ladder would be made as it is without it. The highest "
                f"rung that there is has {kbits(was.rate)} kbit/s at {was.quality:.2f} (measured)."
            ),
        ]
    parts: list[RenderableType] = [
        Text(f"{found.title}: what if {asked or 'nothing changed'}"),
        Text(f"policy {found.policy}; quality is {by}; {basis}", style="dim"),
        Text(),
        _rungs(found),
        Text(),
        Text(
            f"{len(found.rungs)} rungs instead of {len(found.delivered)}; the highest "
            f"{kbits(top.rate)} kbit/s at {top.quality:.2f} ({top.basis}) instead of "
            f"{kbits(was.rate)} at {was.quality:.2f} (measured). It would take "
            f"{found.new_encodes} new encodes."
        ),
        Text(_bd(found)),
    ]
    if found.locked_cost:
        parts += [Text(), *_locked(found)]
    parts += [Text(), *_viewers(found)]
    if found.unchanged:
        note = (
            "The ladder with nothing changed is solved anew on the same curves: nothing but what "
            "is asked tells the two apart."
        )
        parts.append(Text(note, style="dim"))
    parts += [Text(note, style="dim") for note in found.notes]
    parts += [Text(f"Bounded: {n}", style="dim") for rung in found.rungs for n in rung.notes]
    return parts


def _said(name: str, value: Any) -> str:
    if name == "max_rate":
        return f"{kbits(value)} kbit/s"
    if name == "rates":
        return "/".join(kbits(rate) for rate in value) + " kbit/s"
    if isinstance(value, list):
        return "/".join(str(one) for one in value)
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _rungs(found: WhatIf) -> RenderableType:
    table = plain_table(
        *(("size", "l"), ("kbit/s", "r"), ("quality", "r"), ("worst shot", "r")),
        *(("numbers", "l"), ("exist", "r")),
    )
    for rung in found.rungs:
        table.add_row(
            *(f"{rung.size.width}x{rung.size.height}", kbits(rung.rate), f"{rung.quality:.2f}"),
            *(f"{rung.worst_shot:.2f}", rung.basis, f"{rung.existing}/{found.shots}"),
        )
    return table


def _bd(found: WhatIf) -> str:
    measured = all(rung.basis == "measured" for rung in found.rungs)
    kind = "measured" if measured else "interpolated" if found.basis == "measured" else "predicted"
    match found.bd_rate:
        case BdRate() as bd:
            return (
                f"BD-rate {_signed(bd.percent)} ({kind}) against {_before(found)}, over quality "
                f"{bd.low:.1f} to {bd.high:.1f} by {found.quality_model}."
            )
        case NoOverlap() as none:
            return f"BD-rate: {none}"
    return "BD-rate: none, a ladder has too few rungs."


def _before(found: WhatIf) -> str:
    if not found.unchanged:
        return "the ladder that there is (measured)"
    kind = "predicted" if found.basis == "predicted" else "interpolated"
    return f"the ladder with nothing changed ({kind})"


def _locked(found: WhatIf) -> Iterator[RenderableType]:
    by = f"predicted by {predictor(found.predictor)}, corrected by all measurements"
    kind = by if found.basis == "predicted" else "on measured curves, interpolated"
    total = "" if found.locked_bd_rate is None else f": {found.locked_bd_rate:.1f} % of bits"
    yield Text(
        f"What the sizes of the ladder that there is cost against sizes free per shot ({kind})"
        f"{total} (BD-rate)"
    )
    table = plain_table(("rung", "l"), ("kbit/s", "r"), ("quality", "r"), ("costs", "r"))
    for name, cost in zip(found.delivered_names, found.locked_cost, strict=False):
        table.add_row(name, kbits(cost.rate), f"{cost.quality:.2f}", _signed(cost.percent))
    yield table


def _signed(percent: float) -> str:
    """Nothing is neither more nor less."""
    return f"{percent:+.1f} %" if abs(percent) >= 0.05 else "0.0 %"


def _viewers(found: WhatIf) -> Iterator[RenderableType]:
    yield Text(
        f"What viewers would receive, against {_before(found)} (log-normal throughput of this "
        f"median, each plays the highest rung under {AFFORDABLE:g} of its own)"
    )
    table = plain_table(
        ("median", "r"), ("bits", "r"), ("quality", "r"), ("worse off", "r"), ("at worst", "r")
    )
    for one in found.viewers:
        table.add_row(
            f"{one.median / 1e6:g} Mbit/s",
            f"{one.received_percent:+.1f} %",
            f"{one.received.quality - one.fixed.quality:+.2f}",
            f"{100 * one.worse_off:.1f} %",
            f"{-one.worst_loss:.2f}" if one.worst_loss else "0",
        )
    yield table


def whatif_lines(found: WhatIf) -> Iterator[tuple[str, dict[str, Any]]]:
    """An answer as NDJSON: one ``what_if``, then its ``rung`` objects."""
    bd = found.bd_rate
    yield (
        "what_if",
        {
            "title": found.title,
            "quality_model": found.quality_model,
            "basis": found.basis,
            "predictor": found.predictor,
            "asked": dict(found.asked),
            "policy": found.policy,
            "new_encodes": found.new_encodes,
            "bd_rate": None if bd is None else asdict(bd),
            "changes": found.changes,
            "unchanged": [[round(p.rate), round(p.quality, 4)] for p in found.unchanged],
            "delivered": [[p.rate, round(p.quality, 4)] for p in found.delivered],
            "locked_bd_rate_percent": found.locked_bd_rate,
            "locked_cost": [
                {"rung": name, "bitrate": round(c.rate), "percent": round(c.percent, 3)}
                for name, c in zip(found.delivered_names, found.locked_cost, strict=False)
            ],
            "viewers": [
                {**asdict(one), "received_percent": one.received_percent} for one in found.viewers
            ],
            "notes": list(found.notes),
        },
    )
    for rung in found.rungs:
        yield (
            "rung",
            {
                "width": rung.size.width,
                "height": rung.size.height,
                "bitrate": round(rung.rate),
                "quality": round(rung.quality, 4),
                "worst_shot": round(rung.worst_shot, 4),
                "basis": rung.basis,
                "existing_encodes": rung.existing,
                "notes": list(rung.notes),
            },
        )
