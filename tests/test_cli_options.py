"""Options are declared once, and mean what the library calls by the same name."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from cluster.cli.command import command, option
from cluster.cli.compare import WhatIfFlags
from cluster.cli.options import (
    LadderFlags,
    RunFlags,
    SourceFlags,
    given,
    parse_heights,
    parse_profile,
)
from cluster.cli.training import EvaluateFlags, SweepFlags
from cluster.jobs.options import COMMON_NAMES, DEFAULTS, NOT_OF_JOBS, meaning_of
from cluster.jobs.request import LadderOptions, RunOptions
from cluster.jobs.whatif import WhatIfOptions
from cluster.service.options import JobOptions
from cluster.training.evaluate import EvaluateOptions
from cluster.training.sweep import SweepOptions
from docs import generate
from encoder.errors import BadInput
from encoder.source.choices import SourceChoices


def names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("flags", "options", "elsewhere"),
    [
        (RunFlags, RunOptions, {"source", "out"}),
        (WhatIfFlags, WhatIfOptions, {"directory"}),
        (SweepFlags, SweepOptions, {"files", "table", "originals"}),
        (EvaluateFlags, EvaluateOptions, {"table"}),
    ],
)
def test_flags_are_what_the_library_takes(flags: type, options: type, elsewhere: set[str]) -> None:
    assert names(flags) | elsewhere == names(options)
    assert not names(flags) & elsewhere


def test_what_a_service_is_asked_is_what_a_run_is_asked() -> None:
    assert names(LadderFlags) == set(JobOptions.model_fields)
    assert JobOptions.model_validate(given(LadderFlags())) == JobOptions()


def test_every_option_of_run_is_one_of_jobs_or_has_a_reason_not_to_be() -> None:
    command = dict(generate.commands())["shotladder run"]
    spelled = {
        max(parameter.opts, key=len).removeprefix("--").replace("-", "_").lower()
        for parameter in command.params
        if parameter.name not in ("help", "context")
    }
    assert len(spelled) > 20
    assert spelled == set(JobOptions.model_fields) | set(NOT_OF_JOBS)
    assert not set(JobOptions.model_fields) & set(NOT_OF_JOBS)


@pytest.mark.parametrize("name", NOT_OF_JOBS)
def test_what_belongs_to_the_operator_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(NOT_OF_JOBS[name])) as refused:
        JobOptions.model_validate({name: "/etc/passwd"})
    assert repr(name) in str(refused.value)


def test_what_runs_and_jobs_have_in_common_is_declared_once() -> None:
    """Each form takes default and meaning from there, and adds only how it is written."""
    assert set(COMMON_NAMES) == set(JobOptions.model_fields) == names(LadderFlags)
    for field in dataclasses.fields(LadderOptions):
        if field.name in COMMON_NAMES:
            assert field.default == getattr(DEFAULTS, field.name), field.name
    schema = JobOptions.model_json_schema()["properties"]
    told = {one.name: one for one in dict(generate.commands())["shotladder submit"].params}
    for name in COMMON_NAMES:
        assert schema[name]["description"] == meaning_of(name)
        assert told[name].help.startswith(meaning_of(name)), name


def test_choices_about_a_source_are_declared_once() -> None:
    declared = {field.name: field for field in dataclasses.fields(SourceChoices)}
    assert names(SourceFlags) == declared.keys()
    for kind in (SourceFlags, LadderOptions):
        for field in dataclasses.fields(kind):
            if field.name in declared:
                assert field.default == declared[field.name].default
    for field in dataclasses.fields(SourceFlags):
        assert field.metadata["info"].help == declared[field.name].metadata["help"]


def test_without_options_a_run_has_the_library_s_defaults() -> None:
    assert RunOptions(Path("a"), Path("b"), **given(RunFlags())) == RunOptions(Path("a"), Path("b"))


@dataclasses.dataclass(frozen=True)
class Flags:
    number: Annotated[int, typer.Option(help="A number.")]
    heights: Annotated[
        tuple[int, ...] | None, typer.Option(metavar="N,...", parser=parse_heights)
    ] = None
    names: Annotated[tuple[str, ...], typer.Option("--name")] = ()
    size: int = option(7, "--width", min=1, help="A width.")


def asked(*line: str) -> tuple[Flags, bool]:
    seen: list[tuple[Flags, bool]] = []

    @command
    def listen(*, flags: Flags, loud: bool = False) -> None:
        seen.append((flags, loud))

    app = typer.Typer()
    app.command()(listen)
    app(list(line), standalone_mode=False)
    return seen[0]


def test_a_group_comes_as_one_value() -> None:
    assert asked("--number", "3") == (Flags(3), False)
    assert asked("--number", "3", "--width", "9") == (Flags(3, size=9), False)
    assert Flags(3).size == 7
    line = ("--name", "a", "--heights", "234,360", "--number", "3", "--name", "b", "--loud")
    assert asked(*line) == (Flags(3, (234, 360), ("a", "b")), True)


def test_a_mistake_that_a_parser_finds_keeps_its_message() -> None:
    with pytest.raises(BadInput, match="such as 234,360,720; got 'tall'"):
        asked("--number", "3", "--heights", "tall")


def test_a_profile_is_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own").touch()
    Path("default").touch()  # the name of a profile wins
    assert parse_profile("default") == "default"
    assert parse_profile("unknown") == "unknown"
    assert parse_profile("mine.toml") == Path("mine.toml")
    assert parse_profile("own") == Path("own")
