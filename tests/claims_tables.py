"""The tables of the claims, as Markdown, from what was measured of each title and profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from ladder.claims import MEDIANS
from tests.claims_material import (
    TODAY,
    VMAF,
    Against,
    Result,
    received,
    same_recipe,
    saving,
)

MISSING = "–"

Number = Callable[[Result], float | None]


def tables(results: Sequence[Result], today: Sequence[Result]) -> str:
    """Return all tables.

    Args:
        results: Titles under the profiles that the claims are about.
        today: The same titles under the profile of release 0.1.
    """
    if not results:
        return "Nothing has been measured yet."
    parts: list[str] = [
        _extent([*results, *today]),
        _summary(results, today),
        _against(results, "fixed", "Against the fixed ladder"),
        _against(results, "plain_per_title", "Against per-title CRF by plain medium"),
        _same_recipe(results),
        _viewers(results),
        _cpu(results, today),
    ]
    return "\n\n".join(parts)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that there are; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def least_saving(results: Sequence[Result], against: Against) -> float | None:
    """Return the mean saving by the judge beside VMAF by which it is least.

    None where a title has no BD-rate by one of them, or there is no such judge.
    """
    others = results[0].judges[1:]
    of = [[saving(result, against, judge) for result in results] for judge in others]
    means = [sum(value for value in row if value is not None) / len(row) for row in of]
    return max(means, default=None) if all(None not in row for row in of) else None


def _profiles(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.profile for result in results))


def _titles(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.title for result in results))


def _of(results: Sequence[Result], profile: str) -> list[Result]:
    return [result for result in results if result.profile == profile]


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.1f}"


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def _extent(results: Sequence[Result]) -> str:
    """State what was measured, with which recipes and weights."""
    seconds = {result.title: result.seconds for result in results}
    said = ", ".join(f"`{Path(title).stem}` ({of:.1f} s)" for title, of in seconds.items())
    lines = [f"Titles: {said}."]
    for profile in _profiles(results):
        recipes = dict.fromkeys(name for one in _of(results, profile) for name in one.recipes)
        lines.append(f"`{profile}`: {', '.join(f'`{name}`' for name in recipes)}.")
    own = [result for result in results if not result.weights]
    if own:
        named = ", ".join(f"{Path(one.title).stem} {one.profile}" for one in own)
        lines.append(f"Predicted by weights that may know the title's group: {named}.")
    if len({result.code for result in results}) > 1:
        lines.append("Results are of several versions of the code.")
    return "\n".join(lines)


def _summary(results: Sequence[Result], today: Sequence[Result]) -> str:
    """State the means over all titles, a line for each profile."""
    lines = []
    for profile in _profiles(results):
        of = _of(results, profile)
        bits = [mean(received(one, median)[0] for one in of) for median in MEDIANS]
        codecs = dict.fromkeys(codec for one in of for codec in one.per_title)
        same = [mean(same_recipe(one, codec, VMAF) for one in of) for codec in codecs]
        cpu = mean(_times(one, today) for one in of)
        lines.append(
            [
                profile,
                _v1_and_least(of, "fixed"),
                _v1_and_least(of, "plain_per_title"),
                " / ".join(map(percent, same)),
                " / ".join(map(percent, bits)),
                MISSING if cpu is None else f"{cpu:.2f}",
                str(len(of)),
            ]
        )
    header = [
        *("", "fixed ladder, v1 / least", "per-title CRF, plain medium, v1 / least"),
        f"per-title CRF, same recipe, v1, by codec ({', '.join(_all_codecs(results))})",
        f"bits received, {' / '.join(f'{median / 1e6:g}' for median in MEDIANS)} Mbit/s",
        *("CPU", "titles"),
    ]
    return f"## Means, %\n\n{table(header, lines)}"


def _all_codecs(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(codec for one in results for codec in one.per_title))


def _v1_and_least(results: Sequence[Result], against: Against) -> str:
    savings = [saving(result, against, VMAF) for result in results]
    known = sum(value is not None for value in savings)
    of = "" if known in (0, len(savings)) else f" ({known} of {len(savings)})"
    return f"{percent(mean(savings))} / {percent(least_saving(results, against))}{of}"


def _times(result: Result, today: Sequence[Result]) -> float | None:
    """Return the CPU of a job over that of the job of release 0.1 on the same title."""
    before = [one.whole_cpu for one in today if one.title == result.title]
    return result.whole_cpu / before[0] if before else None


def _by_title(
    results: Sequence[Result], columns: Sequence[tuple[str, str, Number]], say: Callable[..., str]
) -> str:
    """Return a table with a line for each title and one of means.

    Each column is a heading, the profile that it is about, and the number of a result.
    """
    found = {(result.title, result.profile): result for result in results}

    def cell(title: str, profile: str, number: Number) -> float | None:
        result = found.get((title, profile))
        return None if result is None else number(result)

    titles = _titles(results)
    grid = [[cell(title, profile, number) for _, profile, number in columns] for title in titles]
    lines = [[Path(title).stem, *map(say, row)] for title, row in zip(titles, grid, strict=True)]
    means = []
    for column in zip(*grid, strict=True):
        known = sum(value is not None for value in column)
        of = "" if known in (0, len(titles)) else f" ({known} of {len(titles)})"
        means.append(f"{say(mean(column))}{of}")
    return table(["", *(heading for heading, _, _ in columns)], [*lines, ["mean", *means]])


def _against(results: Sequence[Result], against: Against, what: str) -> str:
    judges = results[0].judges
    columns: list[tuple[str, str, Number]] = [
        (
            f"{profile}, {judge}",
            profile,
            partial(saving, against=against, judge=judge),
        )
        for profile in _profiles(results)
        for judge in judges
    ]
    return f"## {what}: BD-rate, %\n\n{_by_title(results, columns, percent)}"


def _same_recipe(results: Sequence[Result]) -> str:
    columns: list[tuple[str, str, Number]] = [
        (
            f"{profile}, {codec}, {judge}",
            profile,
            partial(same_recipe, codec=codec, judge=judge),
        )
        for profile in _profiles(results)
        for codec in dict.fromkeys(name for one in _of(results, profile) for name in one.per_title)
        for judge in results[0].judges
    ]
    return (
        "## Against per-title CRF by the same recipe: BD-rate, %\n\n"
        f"{_by_title(results, columns, percent)}"
    )


def _received(result: Result, median: float, number: int) -> float:
    return received(result, median)[number]


def _viewers(results: Sequence[Result]) -> str:
    found: list[str] = []
    for title, number, say in (
        ("Bits received at no viewer's loss, %", 0, percent),
        ("Viewers who are worse off, %", 1, _share),
    ):
        columns: list[tuple[str, str, Number]] = [
            (
                f"{profile}, {median / 1e6:g} Mbit/s",
                profile,
                partial(_received, median=median, number=number),
            )
            for profile in _profiles(results)
            for median in MEDIANS
        ]
        found.append(f"## {title}\n\n{_by_title(results, columns, say)}")
    return "\n\n".join(found)


def _cpu(results: Sequence[Result], today: Sequence[Result]) -> str:
    columns: list[tuple[str, str, Number]] = [
        (profile, profile, lambda result: _times(result, today)) for profile in _profiles(results)
    ]
    drawn = _by_title(results, columns, lambda v: MISSING if v is None else f"{v:.2f}")
    return f"## CPU of the whole job, as a multiple of `{TODAY}`\n\n{drawn}"
