"""Titles that judge a release: nothing is trained on them, and no constant is chosen on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster.training.table import Row

JUDGE_GROUPS: Final = frozenset(
    {
        *("event_film", "sintel", "volleyball_hall", "fate_screen_uebung", "rio_aerial"),
        *("waterfall", "stadium_crowd", "horses_steppe", "seaside", "autumn_larch"),
        "judge_mix_720p",  # twelve shots of the last six
    }
)
"""Groups whose titles are judges."""


def without_judges(rows: Iterable[Row]) -> tuple[list[Row], str]:
    """Return the rows that may be trained on, and in words what was left out; empty if nothing."""
    kept: list[Row] = []
    judges: list[Row] = []
    for row in rows:
        (judges if row.group in JUDGE_GROUPS else kept).append(row)
    if not judges:
        return kept, ""
    groups = ", ".join(sorted({row.group for row in judges}))
    return kept, f"{len(judges)} cells of {groups} are not trained on: these titles are judges"
