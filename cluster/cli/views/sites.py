"""How fill plans and replays of caches look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.views.tables import Column, size, table
from recommender.sites.catalogue import Catalogue
from recommender.sites.planning import PeakHours, PlannedSite
from recommender.sites.replay import Savings


@dataclass(frozen=True, slots=True)
class SiteShown:
    """A site's plan and what is said beside it."""

    site: PlannedSite
    peak: PeakHours
    calibration: tuple[float, int] | None
    """Share of days and titles inside the 80 % band, and how many were compared; None without a
    log."""
    gone: int
    """Files that the site holds and no title has."""


def plan_lines(
    shown: Sequence[SiteShown], known: Catalogue
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a ``site`` for every plan, and a ``file`` for each of its changes."""
    for each in shown:
        site, plan = each.site, each.site.files
        low, high = site.forecast.band()
        inside = each.calibration if each.calibration and each.calibration[1] else None
        yield (
            "site",
            {
                "site": site.name,
                "capacity_bytes": site.capacity,
                "share": site.share,
                "followed_days": site.followed_days,
                **{
                    f"{action}_bytes": site.bytes_of(files)
                    for action, files in _actions(site).items()
                },
                "planned_bytes": site.bytes_of(plan.keep),
                "over_budget_bytes": plan.over_budget,
                "fill_bits_per_second": round(site.fill_rate(each.peak)),
                "expected_plays": round(float(site.forecast.mean.sum()), 3),
                "inside_band": None if inside is None else round(inside[0], 4),
                "compared": 0 if inside is None else inside[1],
                "foreign_files": each.gone,
            },
        )
        for title, mean in enumerate(site.forecast.mean.tolist()):
            band = {"low": low[title], "high": high[title]}
            yield (
                "title",
                {"site": site.name, "title": known.name_of(title), "plays": round(mean, 3), **band},
            )
        for action, files in _actions(site).items():
            for at in files.tolist():
                file = known.demand[at]
                yield (
                    "file",
                    {
                        "site": site.name,
                        "action": action,
                        "title": known.name_of(int(known.files.title[at])),
                        "uri": file.uri,
                        "bytes": file.bytes,
                        "sha256": file.sha256,
                        "value": float(f"{plan.value[at]:.6g}"),
                    },
                )


def _actions(site: PlannedSite) -> Mapping[str, Any]:
    """Return the files of a plan by what is done with them."""
    plan = site.files
    return {"add": plan.ahead, "admit": plan.admit, "remove": plan.remove}


def fill_view(
    shown: Sequence[SiteShown], known: Catalogue, unknown: Mapping[str, int], top: int
) -> list[RenderableType]:
    """Show what each site is to add and remove, and the first files of each kind."""
    parts: list[RenderableType] = []
    columns: list[Column[SiteShown]] = [
        Column("site", lambda one: one.site.name, left=True),
        Column("capacity", lambda one: size(one.site.capacity)),
        Column("planned", lambda one: 100 * one.site.share, ".0f", " %"),
        Column("add", lambda one: size(one.site.bytes_of(one.site.files.ahead))),
        Column("Mbit/s", lambda one: one.site.fill_rate(one.peak) / 1e6, ".3g"),
        Column("admit", lambda one: size(one.site.bytes_of(one.site.files.admit))),
        Column("remove", lambda one: size(one.site.bytes_of(one.site.files.remove))),
        Column("plays", lambda one: float(one.site.forecast.mean.sum()), ".0f"),
        Column("in band", lambda one: 100 * _inside(one.calibration), ".0f", " %"),
    ]
    parts.append(table(columns, shown))
    for each in shown:
        rows = [(action, at) for action, files in _actions(each.site).items() for at in files[:top]]
        if rows:
            parts += [Text(), Text(f"{each.site.name}: the first files of each kind")]
            parts.append(_files(rows, known, each.site))
    peak = shown[0].peak
    legend = [
        f"add: pulled outside the peak hours ({peak.begin:g} to {peak.end:g}), at the rate "
        "shown.\nadmit: pulled by the first viewer who asks, and kept from then on.\n"
        "plays: expected today.\nin band: past days and titles whose plays lay inside the "
        "forecast's 80 % band."
    ]
    for each in shown:
        if each.site.files.over_budget:
            left = size(each.site.files.over_budget)
            legend.append(f"{each.site.name}: {left} more would be added with a larger budget.")
        if each.gone:
            legend.append(f"{each.site.name} holds {each.gone} files of none of these titles.")
    return [*parts, Text(), Text("\n".join([*legend, *_unknown(unknown)]), style="dim")]


def _files(rows: Sequence[tuple[str, int]], known: Catalogue, site: PlannedSite) -> RenderableType:
    columns: list[Column[tuple[str, int]]] = [
        Column("", lambda row: row[0], left=True),
        Column("title", lambda row: known.name_of(int(known.files.title[row[1]])), left=True),
        Column("file", lambda row: known.demand[row[1]].uri, left=True),
        Column("bytes", lambda row: size(known.demand[row[1]].bytes)),
        Column("value", lambda row: float(site.files.value[row[1]]), ".4g"),
    ]
    return table(columns, rows)


def simulation_view(
    measured: Sequence[tuple[int, Savings]],
    catalogue_bytes: int,
    calibration: tuple[float, int],
    unknown: Mapping[str, int],
) -> list[RenderableType]:
    """Show what each cache would have saved."""
    columns: list[Column[tuple[int, Savings]]] = [
        Column("capacity", lambda row: size(row[0])),
        Column("of all", lambda row: 100 * row[0] / catalogue_bytes, ".1f", " %"),
        Column("cache", lambda row: row[1].cache, left=True),
        Column("bytes", lambda row: row[1].bytes, ".3f"),
        Column("first 8 s", lambda row: row[1].early, ".3f"),
        Column("starts", lambda row: row[1].starts, ".3f"),
        Column("net", lambda row: row[1].net, ".3f"),
        Column("peak", lambda row: row[1].peak, ".3f"),
        Column("filled a day", lambda row: size(round(row[1].filled_per_day))),
        Column("planned", lambda row: 100 * row[1].share, ".0f", " %"),
    ]
    legend = [
        "bytes: share of the bytes that were not pulled from the origin; net: less what was "
        "pulled ahead; peak: in peak hours.\nfirst 8 s: share of requests in the first 8 s of "
        "sessions that hit; starts: sessions of which all of these hit.",
        f"Forecasts: {100 * _inside(calibration):.0f} % of {calibration[1]:,} days and titles lay "
        "inside the 80 % band."
        if calibration[1]
        else "Forecasts: no title had as much as one expected play on a day.",
    ]
    return [
        table(columns, measured),
        Text(),
        Text("\n".join([*legend, *_unknown(unknown)]), style="dim"),
    ]


def _inside(calibration: tuple[float, int] | None) -> float:
    return calibration[0] if calibration is not None and calibration[1] else math.nan


def _unknown(unknown: Mapping[str, int]) -> list[str]:
    if not unknown:
        return []
    some = ", ".join(list(unknown)[:3]) + (", ..." if len(unknown) > 3 else "")
    return [f"{sum(unknown.values()):,} plays of other titles were left out ({some})."]
