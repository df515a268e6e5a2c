from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from cluster.cli.drawing import Pace, describe, duration
from cluster.cli.one_line import OneLine
from cluster.cli.progress import LiveDisplay, PlainLines, reporter
from cluster.events import (
    Done,
    Event,
    Failed,
    Round,
    StagePlanned,
    StageProgress,
    Started,
    Warned,
    WorkPlanned,
    document,
    line,
    stage,
)
from encoder.errors import BadInput, SourceUnusable, ToolFailed

RUN: list[Event] = [
    Started("run", "clip.mp4", "0.1.0"),
    StagePlanned("encode", 8, 2, "encodes"),
    Round(1, 6, "first pass"),
    StageProgress("encode", 5, 8, 2),
    Warned("no sound in clip.mp4"),
    StageProgress("encode", 8, 8, 2),
    Done({"out": "ladder"}),
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# -- events ------------------------------------------------------------------------------------


def test_events_as_json() -> None:
    assert [line(event) for event in RUN] == [
        '{"type": "started", "command": "run", "source": "clip.mp4", "version": "0.1.0"}',
        '{"type": "stage_planned", "stage": "encode", "total": 8, "cached": 2, "unit": "encodes"}',
        '{"type": "round", "number": 1, "wanted": 6, "reason": "first pass"}',
        '{"type": "stage_progress", "stage": "encode", "done": 5, "total": 8, "cached": 2}',
        '{"type": "warning", "message": "no sound in clip.mp4", "context": {}}',
        '{"type": "stage_progress", "stage": "encode", "done": 8, "total": 8, "cached": 2}',
        '{"type": "done", "result": {"out": "ladder"}}',
    ]


def test_a_line_is_a_line_whatever_it_holds() -> None:
    event = Warned("two\nlines \u2028 é", {"path": Path("a"), "rate": Fraction(24000, 1001)})
    assert "\n" not in line(event)
    assert json.loads(line(event))["context"] == {"path": "a", "rate": "24000/1001"}
    assert document(Done(MappingProxyType({"rungs": (1, 2)})))["result"] == {"rungs": [1, 2]}


def test_an_error_of_ours_is_an_event_with_its_facts() -> None:
    error = SourceUnusable("asked for clip.mp4,\nfound a poem", size=3)
    assert document(Failed.of(error)) == {
        "type": "error",
        "error": "SourceUnusable",
        "message": "asked for clip.mp4, found a poem",
        "context": {"size": 3},
    }


def test_an_interruption_and_a_defect_are_told_apart() -> None:
    assert Failed.of(KeyboardInterrupt()).error == "Interrupted"
    defect = Failed.of(ZeroDivisionError("division by zero"))
    assert defect.error == "Defect"
    assert "ZeroDivisionError: division by zero" in defect.message
    assert "\n" not in defect.message
    assert "ZeroDivisionError" in defect.context["traceback"]


@pytest.mark.parametrize(
    ("event", "share"),
    [
        (StageProgress("s", 5, 8, 2), 0.5),
        (StageProgress("s", 2, 8, 2), 0.0),
        (StageProgress("s", 8, 8, 8), 1.0),
        (StageProgress("s", 0, 0), 1.0),
        (StageProgress("s", 1, 8, share=0.75), 0.75),
    ],
)
def test_cached_things_are_no_work(event: StageProgress, share: float) -> None:
    assert event.work_share == share


# -- time --------------------------------------------------------------------------------------


def test_time_left_follows_the_work() -> None:
    pace = Pace(100.0)
    assert pace.left(130.0) is None
    pace.update(0.25, 130.0)
    assert pace.left(130.0) == 90.0
    assert pace.left(150.0) == 70.0
    assert pace.left(999.0) == 0.0
    pace.update(1.0, 220.0)
    assert pace.left(220.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3723, "1:02:03")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- plain lines -------------------------------------------------------------------------------


def test_plain_lines() -> None:
    err, clock = io.StringIO(), Clock()
    drawer = PlainLines(err, clock=clock)
    for event in RUN:
        drawer.draw(event)
        clock.now += 20
    assert err.getvalue().splitlines() == [
        "shotladder 0.1.0: run clip.mp4",
        "encode: 8 encodes, 2 of them cached",
        "round 1: 6 encodes to measure (first pass)",
        "encode: 5/8 (2 cached), about 40 s left",
        "warning: no sound in clip.mp4",
        "encode: 8/8 (2 cached) in 1:20",
    ]


def test_plain_lines_are_few() -> None:
    err, clock = io.StringIO(), Clock()
    drawer = PlainLines(err, clock=clock)
    drawer.draw(StagePlanned("encode", 1000, unit="encodes"))
    for done in range(1, 1001):
        clock.now += 0.1
        drawer.draw(StageProgress("encode", done, 1000))
    lines = err.getvalue().splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[-1] == "encode: 1000/1000 in 1:40"


def test_a_failed_tool_is_shown_with_its_reproduction() -> None:
    words = "\n".join(f"line {number}" for number in range(20))
    error = ToolFailed("ffmpeg failed: no", command="ffmpeg -i 'a b'", stderr=words)
    assert describe(Failed.of(error)).splitlines() == [
        "error: ffmpeg failed: no",
        "  command: ffmpeg -i 'a b'",
        *(f"  | line {number}" for number in range(12, 20)),
    ]


# -- live --------------------------------------------------------------------------------------


def live(events: Iterable[Event], kind: type[LiveDisplay | OneLine] = LiveDisplay) -> str:
    """What is left on the terminal, without colours."""
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    drawer = kind(console, clock=clock)
    for event in events:
        drawer.draw(event)
        clock.now += 20
    drawer.close()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_the_live_display_shows_each_stage() -> None:
    text = live([*RUN[:3], StagePlanned("shots", 1, 0, ""), *RUN[3:-2]])
    last = [row for row in text.splitlines() if row.startswith("encode")][-1]
    assert re.fullmatch(r"encode +\S+ +5/8 encodes 2 cached 20 s left *", last.rstrip()), last
    assert any(row.startswith("shots") for row in text.splitlines())
    assert "warning: no sound in clip.mp4" in text


def test_the_live_display_ends_with_what_each_stage_took() -> None:
    text = live(RUN)
    last = [row for row in text.splitlines() if row.startswith("encode")][-1]
    assert "8/8" in last
    assert "in 1:20" in last


def test_one_line_shows_the_whole_and_folds_what_has_ended() -> None:
    told: list[Event] = [
        Started("run", "film.mp4", "0.1.0"),
        StagePlanned("shots", 2400, 800, "frames"),
        StageProgress("shots", 1600, 2400, 800),
        StageProgress("shots", 2400, 2400, 800),
        WorkPlanned({"encode": 100.0, "verify": 20.0}, 10),
        StagePlanned("encode 1", 6, 0, "encodes"),
        Round(1, 6, "first"),
        StageProgress("encode 1", 6, 6),
        StagePlanned("encode 2", 4, 1, "encodes"),
        Warned("no sound in film.mp4"),
        StageProgress("encode 2", 2, 4, 1),
    ]
    rows = [row.rstrip() for row in live(told, OneLine).splitlines()]
    assert "shots: 2400 frames, 800 of them cached, took 1:20, 20 frames/s" in rows
    assert "warning: no sound in film.mp4" in rows
    assert not [row for row in rows if row.startswith("round")]
    line = r"encode \S+ +\d+%, about \S+( s)? left \(8/10 encodes\)"
    assert re.fullmatch(line, rows[-1]), rows[-1]
    assert len([row for row in rows if row.startswith("encode")]) <= 12  # one at a time, redrawn
    ended = [*told, StageProgress("encode 2", 4, 4, 1), StagePlanned("verify", 3), Done({})]
    rows = [row.rstrip() for row in live(ended, OneLine).splitlines()]
    assert "encode: 10 encodes in 2 rounds, 1 of them cached, took 2:20" in rows
    assert [row for row in rows if row.startswith("verify: 0, took")]


def test_one_line_of_a_command_without_a_plan_tells_the_stage() -> None:
    told: list[Event] = [
        Started("compare", "ladder", "0.1.0"),
        StagePlanned("baselines", 8, 0, "encodes"),
        StageProgress("baselines", 2, 8),
    ]
    last = live(told, OneLine).splitlines()[-1].rstrip()
    assert last.endswith("2/8 encodes, about 1:00 left of this stage")


def test_the_live_display_takes_names_as_they_are() -> None:
    text = live(
        [StagePlanned("[red]x", 1, 0, "[b]"), Failed("BadInput", "no [bold]such[/] file [/x]")]
    )
    assert "[red]x" in text
    assert "error: no [bold]such[/] file [/x]" in text


# -- the reporter ------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_and_raise(error: BaseException, events: list[Event], **options: Any) -> None:
    with reporter(**options) as report:
        for event in events:
            report(event)
        raise error


def test_json_goes_to_stdout_and_ends_once() -> None:
    out, err = io.StringIO(), io.StringIO()
    with reporter(as_json=True, stdout=out, stderr=err) as report:
        for event in RUN:
            report(event)
        report(Failed("late", "too late"))
    assert [json.loads(row)["type"] for row in out.getvalue().splitlines()] == [
        event.type for event in RUN
    ]
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BadInput("no"), "BadInput"), (KeyboardInterrupt(), "Interrupted"), (KeyError(1), "Defect")],
)
def test_an_exception_is_the_last_event(error: BaseException, kind: str) -> None:
    out = io.StringIO()
    with pytest.raises(type(error)):
        run_and_raise(error, RUN[:1], as_json=True, stdout=out)
    last = json.loads(out.getvalue().splitlines()[-1])
    assert (last["type"], last["error"]) == ("error", kind)
    assert len(out.getvalue().splitlines()) == 2


def test_an_exception_after_the_end_adds_nothing() -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit):
        run_and_raise(SystemExit(1), [Failed("BadInput", "no")], as_json=True, stdout=out)
    assert len(out.getvalue().splitlines()) == 1


def test_people_read_stderr_and_stdout_stays_theirs() -> None:
    for err in (io.StringIO(), Terminal()):
        out = io.StringIO()
        with reporter(stdout=out, stderr=err) as report:
            for event in RUN:
                report(event)
        assert out.getvalue() == ""
        assert "encode" in err.getvalue()
        assert ("\x1b" in err.getvalue()) == err.isatty()


def test_quiet_leaves_what_matters() -> None:
    err = Terminal()
    with pytest.raises(BadInput):
        run_and_raise(BadInput("asked, found, to do"), RUN[:-1], quiet=True, stderr=err)
    assert err.getvalue().splitlines() == [
        "warning: no sound in clip.mp4",
        "error: asked, found, to do",
    ]


def test_lines_come_while_things_happen() -> None:
    program = (
        "from cluster.events import *; from cluster.cli.progress import reporter\n"
        "with reporter(as_json=True) as report:\n"
        "    report(Started('run', 'a', '1')); input(); report(Done())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env=os.environ,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["type"] == "started"
    out, _ = process.communicate("\n", timeout=60)
    assert json.loads(out)["type"] == "done"


def test_a_stage_is_planned_advances_and_ends() -> None:
    seen: list[Event] = []
    with stage(seen.append, "encode", 5, unit="encodes", cached=2) as progress:
        progress.advance(share=0.7)
    assert seen == [
        StagePlanned("encode", 5, 2, "encodes"),
        StageProgress("encode", 3, 5, 2, 0.7),
        StageProgress("encode", 5, 5, 2),
    ]


def test_a_stage_that_is_done_or_fails_reports_no_end() -> None:
    seen: list[Event] = []
    with stage(seen.append, "encode", 2, unit="encodes", cached=2):
        pass
    with stage(seen.append, "score", 1, unit="scores") as progress:
        progress.advance()
    with pytest.raises(ZeroDivisionError), stage(seen.append, "package", 1, unit="rungs"):
        raise ZeroDivisionError
    assert seen == [
        StagePlanned("encode", 2, 2, "encodes"),
        StagePlanned("score", 1, 0, "scores"),
        StageProgress("score", 1, 1),
        StagePlanned("package", 1, 0, "rungs"),
    ]
