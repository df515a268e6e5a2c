"""Kinds of sources that old collections and editing rooms are full of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.jobs.source_findings import examine_source
from cluster.service.sources import SourcePolicy, find_source, local_path
from cluster.store.place import store_place
from encoder.errors import BadInput
from encoder.ffmpeg import Command
from encoder.names import path_of, shell_quoted, shown, shown_in_json
from encoder.source.sandbox import plan_guarded
from fixtures.kinds import ff

# -- names -----------------------------------------------------------------------------------------

NOT_UTF8 = os.fsdecode(b"bad\xff\xfe.mp4")


def shotladder(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    program = "import sys; from cluster.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def tiny(path: Path, *arguments: object) -> Path:
    codec = arguments or ("-c:v", "libx264", "-preset", "ultrafast")
    ff("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1", *codec, path)
    return path


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and in it the package of a source whose name is not UTF-8."""
    folder = tmp_path_factory.mktemp("names")
    source = tiny(folder / NOT_UTF8)
    out = folder / os.fsdecode(b"out\xff :%d")
    options = ("--store", "store", "--preset", "ultrafast", "--workers", "1", "--heights", "48")
    done = shotladder("run", source.name, "--out", out.name, *options, "--json", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert lines[0]["source"] == r"bad\xff\xfe.mp4"
    assert lines[-1]["type"] == "done"
    return folder, out


def test_documents_name_a_source_whose_name_is_not_utf8(oddly_named: tuple[Path, Path]):
    folder, out = oddly_named
    ladder = json.loads((out / "ladder.json").read_text("utf-8"))
    assert ladder["title"]["source"] == r"bad\xff\xfe.mp4"
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["source"] == f"{folder}/" + r"bad\xff\xfe.mp4"
    assert r"bad\xff\xfe.mp4" in (out / "report.html").read_text("utf-8").replace(r"\\", "\\")


@pytest.mark.parametrize("command", [("verify",), ("ladder", "show"), ("report",)])
def test_commands_on_a_package_whose_names_are_not_utf8(
    oddly_named: tuple[Path, Path], command: tuple[str, ...]
):
    folder, out = oddly_named
    said = shotladder(*command, out.name, cwd=folder).stdout
    assert (b"bad\\xff" if command == ("ladder", "show") else b"out\xff :%d") in said


def test_a_run_is_repeated_by_the_name_in_its_manifest(oddly_named: tuple[Path, Path]):
    folder, _ = oddly_named
    listed = shotladder("runs", "list", "--store", "store", "--json", cwd=folder).stdout
    run = json.loads(listed.splitlines()[0])["run"]
    shotladder("run", "--from", run, "--out", "again", "--store", "store", cwd=folder)
    assert (folder / "again" / "master.m3u8").exists()


def test_a_missing_file_whose_name_is_not_utf8_is_named(tmp_path: Path):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        shotladder("doctor", NOT_UTF8, "--json", cwd=tmp_path)
    said = json.loads(failed.value.stdout.splitlines()[-1])
    assert said["message"] == r"cannot read bad\xff\xfe.mp4: no such file; check the path"


@pytest.mark.parametrize(
    "name",
    [
        *("-lead.mp4", "foo:bar.mp4", "pipe:0", "concat:a|b.mp4", "new\nline.mp4", "100%d.mp4"),
        *('it\'s "q".mp4', " \N{CLAPPER BOARD} .mp4", "dot.", "\\x41.mp4", "n" * 255),
        os.fsdecode(b"\xff" * 255),
    ],
)
def test_any_name_is_read(tmp_path: Path, name: str):
    tiny(tmp_path / "plain.avi", "-c:v", "mpeg4", "-bf", "2").rename(tmp_path / name)
    source = plan_guarded(tmp_path / name, tmp_path)  # of a kind that is remuxed
    assert source.frames == 25
    assert source.named == str(tmp_path / name)
    assert examine_source(tmp_path / name)


def test_names_are_shown_as_text_and_found_again(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"a\\b\xe9.mp4")
    assert shown(path.name) == r"a\x5cb\xe9.mp4"
    assert path_of(shown(path)) == Path(shown(path))  # there is no such file
    path.touch()
    assert path_of(shown(path)) == path
    plain = tmp_path / r"a\xe9.mp4"
    plain.touch()
    assert shown(plain) == str(plain)
    assert path_of(str(plain)) == plain
    assert json.loads(shown_in_json(json.dumps({"a": path.name}, ensure_ascii=False))) == {
        "a": r"a\b\xe9.mp4"
    }


def test_the_shown_command_is_one_that_a_shell_runs(tmp_path: Path):
    name = os.fsdecode(b"it's \\ \xff")
    assert Command(("-i", name)).shell() == r"ffmpeg -i $'it\'s \\ \xff'"
    echoed = subprocess.run(
        ["bash", "-c", f"printf %s {shell_quoted(name)}"], capture_output=True, check=True
    )
    assert echoed.stdout == os.fsencode(name)


def test_a_service_finds_a_source_by_a_uri_with_any_bytes(tmp_path: Path):
    path = tmp_path / NOT_UTF8
    path.write_bytes(b"video")
    found = find_source(path.as_uri(), SourcePolicy((tmp_path,)))
    assert local_path(found.uri) == path


def test_a_store_needs_a_name_in_utf8(tmp_path: Path):
    with pytest.raises(BadInput, match=r"store .*\\xff cannot be used: its path is not UTF-8"):
        store_place(tmp_path / os.fsdecode(b"\xff"))
