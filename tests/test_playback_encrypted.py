"""An encrypted copy plays with its key and does not without: ClearKey, in a real browser.

A canvas gets no pixels of protected media, so a frame is known by the time that it announces;
:mod:`tests.test_encrypt` has the pixels, by other decryptors.
"""

from __future__ import annotations

import os
import queue
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.package.encrypt import Keys, export_encrypted
from cluster.package.package import Package
from tests import playback_material as material
from tests.playback_material import RUNGS, SHOTS

pytestmark = [pytest.mark.timeout(600), pytest.mark.browser]

KEY_ID, KEY, WRONG = "0123456789abcdef0123456789abcdef", "22" * 16, "23" * 16
WAIT_SECONDS = 20
"""How long a page waits for a picture that does not come."""


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[material.Serving]:
    if (why := material.lacking("chromium")) is not None:
        if os.environ.get("SHOTLADDER_BROWSERS"):
            pytest.fail(f"PLAYBACK NOT PROVEN: {why}")
        warnings.warn(f"PLAYBACK NOT PROVEN: {why}", stacklevel=1)
        pytest.skip(f"PLAYBACK NOT PROVEN: {why}")
    folder = tmp_path_factory.mktemp("encrypted")
    clip = material.make_clip(folder / "clip.mp4")
    package = material.make_package(clip, folder / "package")
    export_encrypted(Package.open(package), Keys.single(KEY_ID, KEY), folder / "encrypted")
    with material.serving(folder / "encrypted", clip) as server:
        yield server


def visit(server: material.Serving, player: str, key: str, wait: int) -> dict[str, Any]:
    server.notes.clear()
    page = f"/play.html?player={player}&only=seeks&wait={wait}&key={KEY_ID}:{key}"
    try:
        return material.visit("chromium", server, page, 400)
    except queue.Empty:
        pytest.fail(f"chromium told nothing; last: {server.notes[-3:]}")


@pytest.mark.parametrize("player", ["shaka", "shaka-hls"])
def test_with_the_key_every_rung_arrives_at_the_frame_that_was_asked_for(
    encrypted: material.Serving, player: str
) -> None:
    seen = visit(encrypted, player, KEY, 60)
    assert seen["errors"] == []
    assert len(seen["seeks"]) == len(RUNGS) * len(SHOTS) * 2
    for seek in seen["seeks"]:
        assert (seek["frame"], seek["height"]) == (seek["asked"], RUNGS[seek["rung"]][1])


@pytest.mark.parametrize("player", ["shaka", "shaka-hls"])
def test_with_another_key_nothing_of_the_title_is_shown(
    encrypted: material.Serving, player: str
) -> None:
    seen = visit(encrypted, player, WRONG, WAIT_SECONDS)
    right = [seek for seek in seen["seeks"] if seek["frame"] == seek["asked"]]
    assert right == []
    assert seen["errors"]
