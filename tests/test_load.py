"""The load test itself, at a rate that shows only that it measures what it says."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests import load


def test_load_is_measured_with_and_without_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = argparse.Namespace(
        titles=6, films=1, rate=20, media=10, batches=4, seconds=2, attack="beside", processes=1,
        headers=1, connections=50, listeners=20, sources=5,
    )  # fmt: skip
    measured = load.run(asked, tmp_path)
    printed = capsys.readouterr().out
    assert {*measured} == {"without", "attacked"}
    for one in measured.values():
        assert one["errors"] == 0
        assert one["requests"] == 68
        assert one["documents_p50"] <= one["documents_p99"]
    for opened in ('"idle": 50', '"listening": 20'):
        assert opened in printed
    for kind in (*load.DOCUMENTS[:3], "media range", "batch of starts", "batch of stills"):
        assert f"\n{kind} " in printed
    assert '"header: connections"' in printed
