"""What `ladder show`, `ladder plot` and `shots DIR` print, on documents written by hand."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.jobs import compare
from cluster.package.comparison import CodecComparison, read_comparison
from tests.cli_material import hand_made, hand_made_comparison, hand_made_measurements

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    return tmp_path


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, *line: str
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert "error" not in err
    return "".join(row.rstrip() + "\n" for row in out.splitlines())


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("show", ("ladder", "show")),
        ("show-shots", ("ladder", "show", "--shots")),
        ("show-rung", ("ladder", "show", "--rung", "v2-360p", "--sort", "quality")),
        ("show-sorted", ("ladder", "show", "--sort", "bytes", "--limit", "2")),
        ("what-if", ("what-if", "--max-rate", "400k")),
        ("plot", ("ladder", "plot")),
        ("plot-shot", ("ladder", "plot", "--shot", "1")),
        ("shots", ("shots",)),
        ("compare", ("ladder", "compare", "--rungs")),
    ],
)
def test_views_are_as_written_down(
    package: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    line: tuple[str, ...],
    columns: int,
) -> None:
    monkeypatch.setattr(compare, "compare_ladder", lambda *_: hand_made_comparison())
    found = printed(capsys, monkeypatch, columns, *line, str(package))
    assert max(map(len, found.splitlines())) <= columns
    assert "\x1b" not in found
    golden = GOLDEN / f"{name}-{columns}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text(), f"see {golden}"


def test_sizes_state_their_padding_and_their_shape(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = hand_made()
    sizes = (("x264", 416, 234), ("x264", 624, 352), ("svtav1", 640, 360))
    rungs = [
        rung.model_copy(update={"codec": codec, "width": width, "height": height})
        for rung, (codec, width, height) in zip(ladder.rungs, sizes, strict=True)
    ]
    (package / "ladder.json").write_text(ladder.model_copy(update={"rungs": rungs}).to_json())
    text = " ".join(printed(capsys, monkeypatch, 80, "ladder", "show", str(package)).split())
    # SVT-AV1 codes blocks of 8: 360 lines are whole.
    assert "Padded to whole blocks, at about as many more bits: 416x234 2.6 % in x264. " in text
    assert "Wider (+) or narrower than the title: 624x352 -0.3 %. " in text
    assert main(["ladder", "show", str(package), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = [line for line in lines if line["type"] == "rung"]
    assert [line["padding_percent"] for line in shown] == [2.564, 0.0, 0.0]
    assert [line["aspect_error_percent"] for line in shown] == [0.0, -0.284, 0.0]


def test_codecs_are_compared_in_text_and_in_json(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codecs = (
        CodecComparison("x264-medium", "svtav1-medium", -37.06),
        CodecComparison("x264-medium", "vp9-medium", None),
    )
    compared = replace(hand_made_comparison(), codecs=codecs)
    monkeypatch.setattr(compare, "compare_ladder", lambda *_: compared)
    rows = [row.split() for row in printed(
        capsys, monkeypatch, 100, "ladder", "compare", str(package)
    ).splitlines()]  # fmt: skip
    assert ["svtav1-medium", "x264-medium", "-37.1", "%"] in rows
    assert ["vp9-medium", "x264-medium", "no", "common", "quality"] in rows
    assert main(["ladder", "compare", str(package), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line["type"] == "codec"] == [
        {"type": "codec", **asdict(one)} for one in codecs
    ]
    kept = read_comparison(package)
    assert kept is not None
    assert kept.codecs == list(codecs)


def test_no_colour_is_written_to_a_pipe_even_where_terminals_have_it(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert "\x1b" not in printed(capsys, monkeypatch, 80, "ladder", "show", str(package))


def test_a_predicted_ladder_of_large_rungs_fits_a_terminal(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = hand_made()
    rungs = [
        rung.model_copy(
            update={
                "name": f"v{number}-1080p",
                "width": 1920,
                "height": 1080,
                "bitrate": 12_345_678,
                "peak_bitrate": 23_456_789,
                "predicted_quality": 95.125,
            }
        )
        for number, rung in enumerate(ladder.rungs, 9)
    ]
    (package / "ladder.json").write_text(ladder.model_copy(update={"rungs": rungs}).to_json())
    found = printed(capsys, monkeypatch, 80, "ladder", "show", str(package))
    assert "…" not in found
    row = next(line.split() for line in found.splitlines() if line.startswith("v10-1080p"))
    assert " ".join(row) == "v10-1080p 1920x1080 12346 23457 78.68 74.68 70.56 95.12 3.38"
