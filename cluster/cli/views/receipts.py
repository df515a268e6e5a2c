"""How it looks what viewers receive, by their networks and devices, and when a package has paid."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.views.tables import Column, table
from cluster.package.receipts import PaybackOfViewers, Receipts
from ladder.audience import ClassClaims
from ladder.bdrate import BdRate
from ladder.payback import Payback

_CLASSES = {"h264": "H.264 only", "hevc": "HEVC as well", "av1": "AV1 as well"}


def classes_parts(receipts: Receipts) -> Iterator[RenderableType]:
    """Show what viewers have by the codecs of their devices; nothing where all have the same."""
    claims = next(iter(receipts.audience.values()))
    if not claims.unserved and len({one.against_fixed for one in claims.classes}) == 1:
        return
    yield Text()
    yield Text("viewers by the codecs that their devices play", style="bold")
    yield _classes(receipts)
    if claims.unserved:
        yield Text(
            f"{100 * claims.unserved:.0f} % of the viewers can play no rung of the package; all: "
            "the others",
            style="dim",
        )


def payback_parts(receipts: Receipts, quality_model: str) -> Iterator[RenderableType]:
    """Show when the package has paid; nothing where that is not known."""
    if not receipts.paybacks:
        return
    prices, hours = receipts.prices, receipts.paybacks[0].by_model.cpu_hours
    yield Text()
    yield Text("views after which the package has paid", style="bold")
    yield _paybacks(receipts, quality_model)
    yield Text(
        "saved: by each view of the whole title, at equal quality, of the bits that viewers of the "
        f"fixed ladder receive. The job took {hours:.3g} CPU hours at {prices.cpu_per_hour:g} "
        f"each; 10^9 bytes cost {prices.egress_per_gb:g}, in the same currency.",
        style="dim",
    )


def _classes(receipts: Receipts) -> Table:
    models = list(receipts.audience)
    classes = zip(*(claims.classes for claims in receipts.audience.values()), strict=True)

    def by(number: int) -> Column[tuple[ClassClaims, ...]]:
        def cell(row: tuple[ClassClaims, ...]) -> float | None:
            claim = row[number].against_fixed
            return claim.percent if isinstance(claim, BdRate) else None

        def total(whole: Receipts) -> float | None:
            return whole.audience[models[number]].percent

        return Column(models[number], cell, "+.1f", " %", total=total)

    columns: list[Column[tuple[ClassClaims, ...]]] = [
        Column("plays", lambda row: _CLASSES[row[0].name], left=True, total=lambda _: "all"),
        Column("viewers", lambda row: 100 * row[0].share, ".0f", " %"),
        Column("rungs", lambda row: row[0].rungs),
        *map(by, range(len(models))),
    ]
    return table(columns, classes, receipts)


def _paybacks(receipts: Receipts, quality_model: str) -> Table:
    def views(found: Payback | None) -> str | None:
        if found is None:
            return None
        return "never" if found.views is None else f"{max(1, round(found.views)):,}"

    def saved(found: Payback | None) -> float | None:
        return None if found is None else found.saved_bytes / 1e6

    least = receipts.least
    columns: list[Column[PaybackOfViewers]] = [
        Column("median", lambda one: one.median / 1e6, "g", " Mbit/s"),
        Column("saved", lambda one: saved(one.by_model), ".3g", " MB"),
        Column(f"views, by {quality_model}", lambda one: views(one.by_model)),
        Column("saved", lambda one: saved(one.by_least), ".3g", " MB", shown=least is not None),
        Column(
            f"by {least[0] if least else ''}",
            lambda one: views(one.by_least),
            shown=least is not None,
        ),
    ]
    return table(columns, receipts.paybacks)
