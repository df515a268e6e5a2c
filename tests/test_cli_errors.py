"""Mistakes and failures: one line, the right exit status, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.package import package
from encoder.errors import ToolFailed
from encoder.ffmpeg import Command, run
from tests import cli_material
from tests.cli_material import SHOTLADDER, hand_made, hand_made_measurements, shell


@pytest.fixture(scope="module")
def small_title(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cli_material.small_title(tmp_path_factory.mktemp("title"))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv("SHOTLADDER_STORE", str(folder))
    return folder


def source(kind: str, folder: Path) -> Path:
    """A source that is none, or an existing video's stand-in."""
    path = folder / "source.mp4"
    match kind:
        case "nothing":
            pass
        case "a directory":
            path.mkdir()
        case "text":
            path.write_text("This is not a video.\n" * 100)
        case "empty":
            path.touch()
        case "a playlist":
            path.write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
        case "audio only":
            tone = ("-f", "lavfi", "-i", "sine=duration=0.5", "-c:a", "aac")
            run(Command.of(["-v", "error", *tone, str(path)]))
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nothing", "no such file"),
        ("a directory", "is a directory"),
        ("text", "not a supported kind of video"),
        ("empty", "is empty"),
        ("a playlist", "not a supported kind of video"),
        ("audio only", "no video stream"),
    ],
)
def test_a_source_that_is_none(
    kind: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = source(kind, tmp_path), tmp_path / "out"
    for line in (["run", str(path), "--out", str(out)], ["run", str(path), "--plan"],
                 ["doctor", str(path)]):  # fmt: skip
        assert main(line) == 2
        stdout, stderr = capsys.readouterr()
        assert stdout == ""
        assert stderr.startswith("error: ")
        assert stderr.count("\n") == 1
        assert says in stderr
        assert str(path) in stderr
        assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codec", "divx"], "x264"),
        (["--preset", "placebo"], "ultrafast"),
        (["--profile", "best"], "default"),
        (["--also", "vmaf_v9"], "vmaf_v0.6.1neg"),
        (["--search", "luck"], "exhaustive"),
        (["--policy", "free"], "locked"),
        (["--policy", "mixed"], "locked"),
        (["--heights", "tall"], "234,360,720"),
        (["--heights", "0"], "234,360,720"),
        (["--workers", "0"], "1 or more"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "leave one out"),
        (["--workers", "two"], "integer"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_an_option_that_cannot_be(
    options: list[str],
    says: str,
    small_title: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(small_title), "--out", str(out), *options]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert says in stderr
    assert not out.exists()


def test_outputs_that_cannot_be_written(
    small_title: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, file = tmp_path / "taken", tmp_path / "file"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    file.write_text("not a folder")
    for out in (taken, file, file / "below", Path("/proc/out")):
        assert main(["run", str(small_title), "--out", str(out)]) == 2
        stderr = capsys.readouterr().err
        assert stderr.startswith("error: ")
        assert stderr.count("\n") == 1
    assert [path.name for path in taken.iterdir()] == ["thesis.tex"]
    assert file.read_text() == "not a folder"


def test_run_without_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "film.mp4"]) == 2
    assert "--out DIR" in capsys.readouterr().err


def test_directories_that_are_no_packages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, newer = tmp_path / "broken", tmp_path / "newer"
    for folder, text in ((broken, "{"), (newer, '{"schema": "shotladder/ladder/9"}')):
        folder.mkdir()
        (folder / "ladder.json").write_text(text)
    for folder in (tmp_path, tmp_path / "nowhere", broken, newer):
        for line in (["ladder", "show"], ["ladder", "plot"], ["verify"], ["ladder", "compare"]):
            assert main([*line, str(folder)]) == 2
            stderr = capsys.readouterr().err
            assert stderr.startswith("error: ")
            assert stderr.count("\n") == 1
            assert str(folder) in stderr


def test_a_shot_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    for number in ("3", "-1"):
        assert main(["ladder", "plot", str(tmp_path), "--shot", number]) == 2
        assert "shots 0 to 2" in capsys.readouterr().err


def test_a_json_error_is_the_last_line_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["run", "/nowhere", "--out", "/nowhere", "--json"], ["nonsense", "--json"]):
        assert main(line) == 2
        stdout, stderr = capsys.readouterr()
        assert stderr == ""
        (event,) = map(json.loads, stdout.splitlines())
        assert event["type"] == "error"
        assert event["message"]
        assert "Traceback" not in stdout


def test_a_broken_tool_carries_its_reproduction(small_title: Path, tmp_path: Path) -> None:
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\necho something is very wrong >&2\nexit 7\n")
    tool.chmod(0o755)
    out = tmp_path / "out"
    line = ("run", small_title, "--out", out, "--workers", 1, "--heights", 180)
    done = shell(*line, SHOTLADDER_FFMPEG=str(tool))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: ffmpeg failed: something is very wrong" in done.stderr
    assert "command: ffmpeg -" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    missing = shell("doctor", SHOTLADDER_FFMPEG="/no/such/ffmpeg")
    assert missing.returncode == 1
    assert "/no/such/ffmpeg" in missing.stderr


def test_a_failed_tool_is_no_mistake_of_the_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> None:
        raise ToolFailed("ffmpeg failed: oh", command="ffmpeg -x", returncode=1, stderr="a\noh")

    monkeypatch.setattr(package, "read_ladder", fail)
    assert main(["ladder", "show", "."]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: ffmpeg failed: oh", "  command: ffmpeg -x", "  | a", "  | oh",
    ]  # fmt: skip


def test_a_defect_asks_to_be_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Path) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(package, "read_ladder", fail)
    assert main(["ladder", "show", "."]) == 1
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("error: this is a defect")
    assert first.endswith("ZeroDivisionError: nobody thought of this")


def test_help_is_quick_and_needs_no_heavy_library() -> None:
    heavy = ("dask", "distributed", "av", "torch", "cv2", "scenedetect", "numpy")
    code = (
        "import sys; from cluster.cli import main; status = main(['run', '--help']); "
        f"print(status, [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "--search" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_version_and_help_are_data() -> None:
    version = shell("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("shotladder 0.")
    bare = shell()
    assert (bare.returncode, bare.stderr) == (0, "")
    assert "ladder" in bare.stdout


def test_a_reader_that_goes_away_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*SHOTLADDER, "ladder", "show", str(tmp_path), "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode != 0


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_that_it_can_go_on(
    sent: signal.Signals, status: int, small_title: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*SHOTLADDER, "run", str(small_title), "--out", str(out), "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "encodes" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert stdout == ""
    assert "the same command" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert not list(tmp_path.glob(".out.*"))


def test_an_address_that_is_none_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a service may be starting, the client waits a minute for it."""
    began = time.monotonic()
    assert main(["jobs", "--url", "nonsense"]) == 2
    assert "'nonsense' is not the URL of a service" in capsys.readouterr().err
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("command", "states"),
    [
        ("jobs", "queued, running, succeeded, failed, cancelled"),
        ("deliveries", "waiting, delivered, given_up"),
    ],
)
def test_a_state_that_there_is_not_is_said_without_a_service(
    command: str, states: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--state", "odd"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"no state 'odd'; choose one of {states}" in said
