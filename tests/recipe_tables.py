"""Tables of the measured recipes, as Markdown, and what the rule says of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from encoder.recipes import PRESETS, by_name
from ladder.bdrate import RatePoint
from ladder.evaluation.recipe_rule import Decision, decide, ratio_at_equal_rate
from tests.recipe_material import (
    ANCHOR,
    CPU_FAMILIES,
    CPU_FRAMES,
    CPU_TITLES,
    Row,
    percent,
    shots_of_both,
    times,
)

NAMES = {"vmaf_v1": "VMAF v1", "xpsnr": "XPSNR", "ssim": "SSIM"}
"""Judges by how the names of their models begin."""
MISSING = "–"


def tables(rows: Sequence[Row], options: Mapping[str, str]) -> str:
    """Return all tables that the rows allow.

    Args:
        rows: What was measured.
        options: The recipe that each recipe to judge is compared with.
    """
    rows = [_renamed(row) for row in rows]
    titles = list(dict.fromkeys(row.title for row in rows if row.quality))
    judges = list(dict.fromkeys(judge for row in rows for judge in row.quality))
    parts = [_extent(rows, titles)]
    if judges:
        parts += [_titles_table(rows, options, titles, judges)]
        parts += [_rule_table(rows, options, titles, judges)]
    parts += [_texture_table(rows), _cpu_table(rows)]
    return "\n\n".join(part for part in parts if part)


def _renamed(row: Row) -> Row:
    """Call every variant of VMAF v1 by one name: which one a title has is its frame rate's."""
    return replace(row, quality={_named(judge): of for judge, of in row.quality.items()})


def _named(judge: str) -> str:
    return next((name for begin, name in NAMES.items() if judge.startswith(begin)), judge)


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.1f}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _extent(rows: Sequence[Row], titles: Sequence[str]) -> str:
    """State how much of every title was measured under the anchor."""
    lines = []
    for title in titles:
        anchored = [row for (row,) in shots_of_both(rows, title, ANCHOR) if row.quality]
        if anchored:
            frames = sum(row.end - row.start for row in anchored)
            one = anchored[0]
            size = f"{one.width}x{one.height}"
            lines.append([Path(title).stem, size, f"{frames} of {one.title_frames}"])
    return table(["title", "size", "frames measured"], lines) if lines else ""


def _titles_table(
    rows: Sequence[Row], options: Mapping[str, str], titles: Sequence[str], judges: Sequence[str]
) -> str:
    lines = []
    named = dict.fromkeys([*options.values(), *options])
    for recipe in (name for name in named if name not in (ANCHOR, "")):
        found = [[percent(rows, t, judge, ANCHOR, recipe) for judge in judges] for t in titles]
        if all(value is None for cell in found for value in cell):
            continue
        means = [
            _mean([value for value in column if value is not None])
            for column in zip(*found, strict=True)
        ]
        cells = [" / ".join(map(_percent, cell)) for cell in [*found, means]]
        lines.append([f"`{recipe}`", *cells])
    header = [f"BD-rate in %, {' / '.join(judges)}", *(Path(t).stem for t in titles), "mean"]
    return table(header, lines)


def decision_of(
    rows: Sequence[Row], recipe: str, without: str, titles: Sequence[str], judges: Sequence[str]
) -> Decision | None:
    """Apply the rule to a recipe over the titles that have all it needs; None without one."""
    pairs = ((ANCHOR, recipe), (ANCHOR, without))
    found = {
        title: [
            [
                0.0 if anchor == test else percent(rows, title, judge, anchor, test)
                for judge in judges
            ]
            for anchor, test in pairs
        ]
        for title in titles
    }
    whole = [t for t in titles if all(value is not None for of in found[t] for value in of)]
    if not whole:
        return None
    rates = [
        {
            judge: {Path(t).stem: found[t][pair][i] or 0.0 for t in whole}
            for i, judge in enumerate(judges)
        }
        for pair in range(len(pairs))
    ]
    return decide(*rates, texture=list(textures(rows, recipe).values()))


def _rule_table(
    rows: Sequence[Row], options: Mapping[str, str], titles: Sequence[str], judges: Sequence[str]
) -> str:
    lines = []
    for recipe, without in options.items():
        made = decision_of(rows, recipe, without, titles, judges) if without else None
        if made is None:
            continue
        cpu = [t for title in titles if (t := times(rows, title, ANCHOR, recipe)) is not None]
        lines.append(
            [
                f"`{recipe}`",
                f"`{without}`",
                f"{made.least:+.1f}",
                " / ".join(_percent(made.changes[judge]) for judge in judges),
                f"{made.worst.percent:+.1f} ({made.worst.title}, {made.worst.judge})",
                MISSING if made.texture is None else f"{made.texture:.2f}",
                f"{_mean(cpu) or 0.0:.2f}",
                "taken" if made.taken else "no: " + "; ".join(made.refusals),
            ]
        )
    header = ["recipe", "compared with", "least mean", "change", "worst title", "texture", "CPU"]
    return table([*header, "the rule"], lines)


def textures(rows: Sequence[Row], recipe: str) -> dict[str, float]:
    """Return a recipe's fine energy at equal rate over plain medium's of its codec, by title.

    Another codec's texture is not held to x264's: the guard judges options, and a codec is chosen
    for what it saves.
    """
    rows = [row for row in rows if row.texture]
    anchor = f"{by_name(recipe).codec}-medium"
    found = {}
    for title in dict.fromkeys(row.title for row in rows):
        pairs = shots_of_both(rows, title, anchor, recipe)
        if not pairs:
            continue
        curves = []
        for side in (0, 1):
            own = [pair[side] for pair in pairs]
            frames = sum(row.end - row.start for row in own)
            curves.append(
                [
                    RatePoint(
                        sum(row.bits[i] for row in own),
                        sum((row.end - row.start) * row.texture[i] for row in own) / frames,
                    )
                    for i in range(len(own[0].crfs))
                ]
            )
        ratio = ratio_at_equal_rate(*curves)
        if ratio is not None:
            found[title] = ratio
    return found


def _texture_table(rows: Sequence[Row]) -> str:
    titles = list(dict.fromkeys(row.title for row in rows if row.texture))
    if not titles:
        return ""
    lines = []
    for recipe in sorted({row.recipe for row in rows if row.texture}):
        kept = textures(rows, recipe)
        mean = _mean(list(kept.values()))
        cells = [MISSING if title not in kept else f"{kept[title]:.2f}" for title in titles]
        lines.append([f"`{recipe}`", *cells, MISSING if mean is None else f"{mean:.2f}"])
    header = [
        "fine energy at equal rate, over plain `medium`'s",
        *(title.replace(".mp4", "") for title in titles),
        "mean",
    ]
    return table(header, lines)


def _cpu_table(rows: Sequence[Row]) -> str:
    """CPU of every codec's presets, each on the shots that it shares with the anchor."""
    rows = [row for row in rows if row.end - row.start == CPU_FRAMES]
    lines = []
    for codec, tuning in CPU_FAMILIES:
        cells = []
        for preset in PRESETS:
            name = f"{codec}-{preset}" + (f"+{tuning}" if tuning else "")
            found = [
                (of.encode_seconds, own.encode_seconds)
                for title in CPU_TITLES
                for of, own in shots_of_both(rows, title, ANCHOR, name)
            ]
            ratio = sum(b for _, b in found) / sum(a for a, _ in found) if found else None
            cells.append(MISSING if ratio is None else f"{ratio:.2f}")
        if any(cell not in (MISSING, "1.00") for cell in cells):
            lines.append([f"`{codec}`" + (", tuned" if tuning else ""), *cells])
    return table(["CPU over x264 medium's", *PRESETS], lines) if lines else ""
