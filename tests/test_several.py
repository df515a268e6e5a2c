"""Several sources in one command: a package each, one summary, and what fails stops nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster import events
from cluster.cli.views.several import several_lines, several_view
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.several import (
    SourceOutcome,
    failure,
    is_made,
    package_names,
    run_titles,
    several_options,
)
from encoder.errors import BadInput
from fixtures.clips import GRADIENTS, make
from tests.running import SHORT, contents, quick_profile


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (("a.mp4", "b.mkv"), ("a", "b")),
        (("x/a.mp4", "y/a.mp4", "y/b.mp4"), ("x-a", "y-a", "y-b")),
        (("x/.mp4", "x/b.mp4"), ("mp4", "b")),
        (("a.mp4", "a.mkv"), ("a.mp4", "a.mkv")),
        (("/", "a.mp4"), ("title", "a")),
    ],
)
def test_folders_are_named_after_the_sources(
    sources: tuple[str, ...], names: tuple[str, ...], tmp_path: Path
) -> None:
    assert package_names([tmp_path / source for source in sources]) == names


def test_a_source_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is named twice"):
        package_names([tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "a.mp4"])


def test_a_package_is_no_folder_for_packages(tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text("{}")
    options = RunOptions(Path(), tmp_path)
    with pytest.raises(BadInput, match="is a package"):
        several_options(options, [Path("a.mp4"), Path("b.mp4")])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, seen = tmp_path_factory.mktemp("several"), list[events.Event]()
    first = make(SHORT, folder / "first.mp4")
    bad = folder / "bad.mp4"
    bad.write_bytes(b"no film" * 1000)
    other = replace(SHORT, scenes=(replace(SHORT.scenes[0], picture=GRADIENTS),))
    last = make(other, folder / "last.mp4")
    common = RunOptions(
        Path(),
        folder / "out",
        profile=quick_profile(),
        preset="ultrafast",
        recipe_check="never",
        heights=(54,),
        search="exhaustive",
        store=folder / "store",
    )
    runs = several_options(common, [first, bad, last])
    return runs, run_titles(runs, seen.append, InlineExecutor()), seen


def test_one_bad_source_does_not_stop_the_others(made: Any) -> None:
    runs, outcomes, seen = made
    assert [one.outcome for one in outcomes] == ["made", "failed", "made"]
    assert [(one.out / "master.m3u8").exists() for one in runs] == [True, False, True]
    assert [one.out.name for one in runs] == ["first", "bad", "last"]
    said = [event.message for event in seen if isinstance(event, events.Warned)]
    assert any("bad.mp4 failed: " in message for message in said)
    error = failure(outcomes)
    assert error is not None
    assert error.message.startswith("1 of 3 sources failed: bad.mp4;")
    assert failure([one for one in outcomes if one.outcome != "failed"]) is None


def test_the_summary_has_a_row_for_each_source(made: Any) -> None:
    _, outcomes, _ = made
    console = Console(width=80, record=True)
    for part in several_view(outcomes):
        console.print(part)
    text = console.export_text()
    assert all(len(row) <= 80 for row in text.splitlines())
    for name, outcome in (("first.mp4", "made"), ("bad.mp4", "failed"), ("last.mp4", "made")):
        assert any(name in row and outcome in row for row in text.splitlines())
    lines = [fields for _, fields in several_lines(outcomes)]
    assert [one["outcome"] for one in lines] == ["made", "failed", "made"]
    assert lines[1]["error"] == "SourceUnusable"
    assert lines[0]["bytes"] == sum(
        path.stat().st_size for path in (outcomes[0].out / "video").rglob("*.m4s")
    )


def test_the_same_command_makes_only_what_is_missing(made: Any) -> None:
    runs, _, _ = made
    before = contents(runs[0].out), (runs[0].out / "run.json").read_bytes()
    again: tuple[SourceOutcome, ...] = run_titles(runs, lambda event: None, InlineExecutor())
    assert [one.outcome for one in again] == ["made before", "failed", "made before"]
    assert (contents(runs[0].out), (runs[0].out / "run.json").read_bytes()) == before


def test_what_was_made_of_other_bytes_or_options_is_made_again(made: Any, tmp_path: Path) -> None:
    (first, _, last), *_ = made
    assert is_made(first)
    assert not is_made(replace(first, max_rate=1e6))
    assert not is_made(replace(first, source=last.source))
    assert not is_made(replace(first, out=tmp_path))
    copy = shutil.copytree(first.out, tmp_path / "copy")
    assert is_made(replace(first, out=copy))
    segment = next(copy.glob("video/*/*.m4s"))
    segment.write_bytes(segment.read_bytes()[:-1])
    assert not is_made(replace(first, out=copy))
    ladder = json.loads((first.out / "run.json").read_text())
    assert ladder["options"]["search"] == "exhaustive"
