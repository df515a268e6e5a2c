"""One small run from the command line, and every command on what it left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.cli.views.tables import size
from tests import cli_material
from tests.cli_material import called, shell
from tests.running import few_rates

DOCS = Path(__file__).parent.parent / "docs"
OPTIONS = ("--heights", "180", "--preset", "ultrafast")


@dataclass(frozen=True)
class Finished:
    source: Path
    out: Path
    store: Path
    process: subprocess.CompletedProcess[str]

    def call(self, *line: object) -> subprocess.CompletedProcess[str]:
        return called(*line, SHOTLADDER_STORE=str(self.store))

    def events(self, *line: object) -> list[dict[str, Any]]:
        done = self.call(*line, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(row) for row in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("run")
    small_title = cli_material.small_title(folder)
    out, store = folder / "ladders" / "out", folder / "store"
    line = ("run", small_title, "--out", out, *OPTIONS)
    planned = called(*line, "--plan", SHOTLADDER_STORE=str(store))
    assert planned.returncode == 0
    said = " ".join(planned.stdout.split())
    assert re.search(r"encodes about \d+ by the predict search \(the full grid has 18\)", said)
    assert not out.parent.exists()
    return Finished(small_title, out, store, shell(*line, SHOTLADDER_STORE=str(store)))


def test_a_run_prints_what_it_made(finished: Finished) -> None:
    done = finished.process
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == ["master.m3u8", "manifest.mpd", "ladder.json"]
    assert all(path.parent == finished.out and path.exists() for path in paths)
    assert "verify: " in done.stderr
    last = done.stderr.splitlines()[-1]
    taken = sum(file.stat().st_size for file in finished.out.rglob("*") if file.is_file())
    assert re.search(r"^\d+ rungs up to v\d+-180p, [0-9.]+ kbit/s at [0-9.]+ \(vmaf", last)
    assert f"; {size(taken)} in " in last
    assert last.endswith(f"; open {finished.out / 'report.html'}")
    assert "\x1b" not in done.stderr


def test_a_wrong_source_replaces_no_report(finished: Finished, tmp_path: Path) -> None:
    page = finished.out / "report.html"
    before = page.read_bytes()
    (wrong := tmp_path / "wrong.mp4").write_bytes(b"no film")
    for named in (wrong, tmp_path / "gone.mp4"):
        done = finished.call("report", finished.out, "--source", named)
        assert done.returncode != 0
        assert str(named) in done.stderr
        assert page.read_bytes() == before


def test_heights_that_no_size_has_are_said(finished: Finished) -> None:
    line = ("run", finished.source, "--plan", "--preset", "ultrafast", "--heights", "90,170,10000")
    said = " ".join(finished.call(*line).stderr.split())
    assert "no size of 10000 lines: the source has 180" in said
    assert "no size of 170 lines: the source's own 180 are hardly more" in said
    assert "no size of 90" not in said


def test_every_file_of_a_package_is_documented(finished: Finished) -> None:
    said = (DOCS / "formats.md").read_text()
    assert "`artwork/ID/`" in said
    for path in finished.out.rglob("*"):
        if path.is_file() and path.suffix != ".m4s" and path.parent.parent.name != "artwork":
            assert f"`{path.name}`" in said or f"/{path.name}`" in said, path


def test_events_keep_their_promises(finished: Finished) -> None:
    before = (finished.out / "ladder.json").read_bytes()
    events = finished.events("run", finished.source, "--out", finished.out, *OPTIONS)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "done"
    assert kinds.count("started") == kinds.count("done") == 1
    assert "error" not in kinds
    planned: set[str] = set()
    for event in events:
        if event["type"] == "stage_planned":
            planned.add(event["stage"])
        elif event["type"] == "stage_progress":
            assert event["stage"] in planned
            assert event["cached"] <= event["done"] <= event["total"]
    assert {"shots", "package", "verify"} <= planned
    result = events[-1]["result"]
    assert result["run"]["encoded_now"] == result["run"]["scored_now"] == 0
    assert (finished.out / "ladder.json").read_bytes() == before
    documented = (DOCS / "events.md").read_text()
    assert all(f"## `{kind}`" in documented for kind in kinds)


def test_show_agrees_with_the_document(finished: Finished) -> None:
    document = json.loads((finished.out / "ladder.json").read_bytes())
    lines = finished.events("ladder", "show", finished.out, "--shots")
    assert [line["type"] for line in lines if line["type"] != "segment"] == [
        "ladder", *["rung"] * len(document["rungs"]), "done",
    ]  # fmt: skip
    segments = [line for line in lines if line["type"] == "segment"]
    assert [line["bytes"] for line in segments] == [
        segment["bytes"] for rung in document["rungs"] for segment in rung["segments"]
    ]
    table = finished.call("ladder", "show", finished.out).stdout
    for rung in document["rungs"]:
        (row,) = (
            line.split() for line in table.splitlines() if line.startswith(rung["name"] + " ")
        )
        assert float(row[2]) == pytest.approx(rung["bitrate"] / 1000, abs=0.51)
        mean = rung["quality"][document["quality_model"]]["mean"]
        assert float(row[4]) == pytest.approx(mean, abs=0.0051)
    assert document["quality_model"] in table


def test_rungs_lie_on_the_plotted_hull(finished: Finished) -> None:
    """What is plotted and what was chosen come from the same measurements."""
    *series, done = finished.events("ladder", "plot", finished.out)
    hull, rungs = series[0], series[-1]
    assert hull["joined"]
    assert not rungs["joined"]
    assert done["result"]["quality_model"].startswith("vmaf_")
    for rate, quality in rungs["points"]:
        under = [q for r, q in hull["points"] if r <= rate]
        assert not under or quality >= max(under) - 6


def test_shots_of_source_and_package_are_the_same(finished: Finished) -> None:
    of_source = [e for e in finished.events("shots", finished.source) if e["type"] == "shot"]
    *of_package, done = finished.events("shots", finished.out)
    assert of_source == of_package
    assert of_package[0]["start_frame"] == 0
    assert of_package[-1]["end_frame"] == done["result"]["frames"]


def test_verify_names_what_is_damaged(finished: Finished, tmp_path: Path) -> None:
    assert finished.call("verify", finished.out).returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(finished.out, copy)
    segment = sorted(copy.glob("video/*/00001.m4s"))[0]
    media = bytearray(segment.read_bytes())
    media[-20] ^= 1
    segment.write_bytes(bytes(media))
    done = finished.call("verify", copy)
    assert done.returncode == 1
    assert done.stdout == ""
    assert segment.name in done.stderr
    assert segment.parent.name in done.stderr


def test_compare_states_three_claims_for_every_model(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("ladder", "compare", finished.out, "--store", finished.store, "--workers", 1, "--json")
    with few_rates():
        assert main([*map(str, line)]) == 0
    events = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    claims = [event for event in events if event["type"] == "claims"]
    models = ["vmaf_v1.0.16_3d0h", "xpsnr", "ssim"]
    assert [claim["quality_model"] for claim in claims] == models
    for claim in claims:
        assert {"against_fixed", "against_per_title", "against_plain_per_title"} <= set(claim)
    assert [viewers["median"] for viewers in claims[0]["viewers"]] == [1e6, 3e6, 10e6]
    assert claims[1]["viewers"] == claims[2]["viewers"] == []
    ladders = [event["ladder"] for event in events if event["type"] == "compared_rung"]
    assert {"ours", "fixed", "per_title", "plain_per_title"} == set(ladders)
    (least,) = [event for event in events if event["type"] == "least"]
    assert least["codec"] == "x264"


def test_doctor_tells_what_will_happen_to_a_source(finished: Finished) -> None:
    topics = {e["topic"]: e for e in finished.events("doctor", finished.source) if "topic" in e}
    assert "320x180" in topics["ladder"]["found"]
    assert "vmaf_v1" in topics["ladder"]["then"]
    assert "AAC" in topics["sound"]["then"]


def test_doctor_finds_a_machine_that_can_run(finished: Finished) -> None:
    done = finished.call("doctor")
    assert done.returncode == 0, done.stdout
    said = " ".join(done.stdout.split())  # long paths wrap lines anywhere
    for word in ("libx264", "vmaf_v1.0.16_3d0h", "vmaf_v0.6.1neg", "cores", "memory", "GiB free"):
        assert word in said
    assert "not in this build" not in said


def test_a_repeated_run_takes_no_other_options(finished: Finished, tmp_path: Path) -> None:
    done = finished.call("run", "--from", "latest", "--out", tmp_path / "x", "--codec", "x265")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --from takes the options of ")
    assert done.stderr.endswith("; leave out --codec\n")
    assert not (tmp_path / "x").exists()


def test_the_entry_point_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="shotladder")
    assert script.value == "cluster.cli:main"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("h264", "x264"), ("HEVC,av1", "x265,svtav1"), ("x264, vp9", "x264,vp9"), ("divx", "divx")],
)
def test_codecs_go_by_their_own_names_too(said: str, meant: str) -> None:
    from cluster.cli.options import parse_codecs

    assert parse_codecs(said) == meant


def test_the_shell_completes_commands() -> None:
    # The shell that runs the tests is not asked: it need not be one that completes.
    script = shell("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_SHOTLADDER_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "shotladder ru", "COMP_CWORD": "1"}
    offered = shell(_SHOTLADDER_COMPLETE="complete_bash", **words)
    assert set(offered.stdout.split()) == {"run", "runner", "runs"}
