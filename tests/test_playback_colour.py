"""Every rung shows the colour of the source: pixels of real browsers."""

from __future__ import annotations

import os
import queue
import random
import warnings
from pathlib import Path

import pytest

from encoder.source.planning import plan_source
from fixtures.kinds import colour
from tests import playback_material as material
from tests.colour_material import rung

pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]

# Debian's Chromium decodes no HEVC. Firefox takes colours of AV1 from the stream alone.
PLAYS = {"chromium": ("x264", "svtav1", "vp9"), "firefox": ("x264", "x265", "svtav1", "vp9")}
TOLERANCE = 2


@pytest.mark.parametrize("browser", sorted(PLAYS))
def test_rungs_of_untagged_titles_have_the_colour_of_the_source(browser: str, tmp_path: Path):
    if material.find_browser(browser) is None:
        why = f"PLAYBACK NOT PROVEN: {browser} is not installed: run `make browsers`"
        if os.environ.get("SHOTLADDER_BROWSERS"):
            pytest.fail(why)
        warnings.warn(why, stacklevel=1)
        pytest.skip(why)
    files, wanted = {}, {}
    for seed, heights in ((1, (720, 360)), (3, (360, 180))):
        folder = tmp_path / str(seed)
        folder.mkdir()
        clip = folder / "clip.mp4"
        truth = _untagged(clip, heights[0], seed)
        source = plan_source(clip, folder)
        for codec in PLAYS[browser]:
            for height in heights:
                whole = rung(source, codec, (height * 16 // 9, height), folder)
                name = f"{codec}-{heights[0]}-as-{height}.mp4"
                files[name], wanted[name] = whole, truth
    page = Path(__file__).parent / "browser" / "colour.html"
    places = {f"/{name}": path for name, path in files.items()} | {"/colour.html": page}
    with material.serving(tmp_path, tmp_path, places) as server:
        try:
            seen = material.visit(browser, server, f"/colour.html?files={','.join(files)}")
        except queue.Empty:
            pytest.fail(f"{browser} told nothing; missing: {server.missing}")
    far = {
        name: (shown, wanted[name])
        for name, shown in seen.items()
        if isinstance(shown, str)
        or max(abs(a - b) for a, b in zip(shown, wanted[name], strict=True)) > TOLERANCE
    }
    assert far == {}


def _untagged(path: Path, height: int, seed: int) -> list[int]:
    """Write an untagged title of ``height`` lines; return the colour in its middle."""
    for chance in map(random.Random, range(seed, 1000)):
        truth = colour.make_untagged(path, chance)
        if truth.size == (height * 16 // 9, height):
            return list(truth.colours[0][2:])
    raise AssertionError("no such size")
