"""A package with a fitted size: the shape of the picture differs from the title's by up to 1 %."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from cluster.package.package import Package
from fixtures.clips import make
from tests.running import SHORT, quick_profile, run_inline


def test_playlists_and_verification_agree_on_a_fitted_size(tmp_path: Path) -> None:
    source = make(SHORT, tmp_path / "clip.mp4")
    profile = quick_profile(heights=(98,), fit_sizes=True, min_quality=1, first_rate=(1_000, 2_000))
    out = tmp_path / "out"
    run_inline(source, out, tmp_path / "store", search="exhaustive", profile=profile)
    ladder = Package(out).ladder
    # 174x98 would be padded to 176x112, 172x96 is to 176x96.
    fitted = [rung for rung in ladder.rungs if rung.size == (172, 96)]
    assert fitted
    assert fitted[0].padding == pytest.approx(176 / 172 - 1)
    assert ladder.aspect_error(fitted[0]) == pytest.approx(172 / 96 / (16 / 9) - 1)
    resolutions = [p.stream_info.resolution for p in m3u8.load(str(out / "master.m3u8")).playlists]
    assert (172, 96) in resolutions
    manifest = ElementTree.parse(out / "manifest.mpd")
    shown = [each.attrib for each in manifest.iter() if each.tag.endswith("Representation")]
    assert ("172", "96", "1:1") in [
        (each.get("width"), each.get("height"), each.get("sar")) for each in shown
    ]
