"""Draw rate against quality in the terminal.

Rates are on a logarithmic axis, as viewers perceive them.
"""

from __future__ import annotations

import math
import shutil
import string
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.cli.views.ladder import predictor
from cluster.package.plots import Plot, RateQuality, Series

LETTERS = string.ascii_lowercase
LINE, CHOSEN, PREDICTED = "·", "O", "?"
MARGIN = 1.05
MIN_WIDTH, MAX_WIDTH, HEIGHT = 60, 160, 26


def render(plot: Plot, *, width: int | None = None) -> str:
    """Draw ``plot`` as text, ``width`` columns wide (default: the terminal's width).

    There is no colour: letters tell the series apart, on paper too.
    """
    import plotext

    columns = min(max(width or shutil.get_terminal_size().columns, MIN_WIDTH), MAX_WIDTH)
    plotext.terminal.limit(False, False)  # otherwise a pipe counts as 80 columns
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(columns, HEIGHT)
    points = [point for series in plot.series for point in series.points]
    _set_axes(figure, points)
    legend = []
    letters = iter(LETTERS)
    # Lines first, because marks that are drawn later cover them.
    for series in sorted(plot.series, key=lambda series: not series.joined):
        mark = _mark(series, plot, letters)
        rates = [math.log10(point.bitrate) for point in series.points]
        signal = figure.signal(rates, [point.quality for point in series.points], marker=mark)
        figure.draw(signal.lines() if series.joined else signal)
        legend.append(f"{mark} {series.label}")
    drawn = [line.rstrip() for line in figure.build().string(colorless=True).splitlines()]
    axes = [f"y axis: {plot.quality_model};", "x axis: kbit/s (log scale);", *_basis(plot)]
    return "\n".join(
        [plot.title, *_wrapped(legend, columns), *drawn, *_wrapped(axes, columns, " ")]
    )


def plot_lines(plot: Plot) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the series of a plot as NDJSON objects; points are bit/s and quality."""
    for series in plot.series:
        fields = {
            "label": series.label,
            "joined": series.joined,
            "basis": series.basis,
            "points": [[round(p.bitrate), round(p.quality, 4)] for p in series.points],
        }
        yield "series", fields


def _basis(plot: Plot) -> list[str]:
    if all(series.basis == "measured" for series in plot.series):
        return ["all points measured"]
    by = f" by {predictor(plot.predictor)}" if plot.predictor else ""
    return ["all points measured", f"except those marked {PREDICTED}, predicted{by}"]


def _mark(series: Series, plot: Plot, letters: Iterator[str]) -> str:
    if series.joined:
        return LINE
    if series is plot.series[-1]:
        return CHOSEN
    return PREDICTED if series.basis == "predicted" else next(letters)


def _set_axes(figure: Any, points: Sequence[RateQuality]) -> None:
    # Limits are explicit, because an axis with explicit ticks would end at its last tick.
    rates = [point.bitrate for point in points]
    ticks = rate_ticks(min(rates), max(rates))
    axis = figure.ruler("x")
    axis.lim(math.log10(min(rates) / MARGIN), math.log10(max(rates) * MARGIN))
    axis.ticks([math.log10(rate) for rate in ticks], [_kbits(rate) for rate in ticks])
    scores = [point.quality for point in points]
    marked = quality_ticks(min(scores), max(scores))
    axis = figure.ruler("y")
    axis.lim(min(scores) - 1, max(scores) + 1)
    axis.ticks(marked, [f"{score:g}" for score in marked])


def quality_ticks(lowest: float, highest: float) -> list[float]:
    """Return at most eight round numbers within the range; its ends if there are fewer than two."""
    step = next((s for s in (1, 2, 5, 10, 20) if (highest - lowest) / s <= 8), 50)
    first, last = math.ceil(lowest / step), math.floor(highest / step)
    ticks = [float(step * number) for number in range(first, last + 1)]
    return ticks if len(ticks) > 1 else [round(lowest, 2), round(highest, 2)]


def rate_ticks(lowest: float, highest: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within the range; its ends if fewer than two."""
    powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if lowest <= m * 10.0**p <= highest]
    return ticks if len(ticks) > 1 else [lowest, highest]


def _kbits(bitrate: float) -> str:
    return f"{bitrate / 1000:.3g}" if bitrate < 100_000 else f"{bitrate / 1000:.0f}"


def _wrapped(parts: list[str], columns: int, gap: str = "   ") -> list[str]:
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(gap) + len(part) > columns:
            lines.append("")
        lines[-1] += (gap if lines[-1] else "") + part
    return lines
