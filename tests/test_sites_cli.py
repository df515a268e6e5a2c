"""``prefetch fill`` and ``prefetch simulate`` as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli import main

DAY = 86400
FIRST = 20_000
"""Number of the log's first day."""


@pytest.fixture(scope="module")
def titles(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from tests.service_material import write_package

    folder = tmp_path_factory.mktemp("sites")
    for name in ("one", "two", "three"):
        write_package(folder / name, name, shots=6, rungs=3, sizes=2000)
    return [str(folder / name) for name in ("one", "two", "three")]


@pytest.fixture(scope="module")
def log(titles: list[str]) -> Path:
    """Six days of plays at two sites; nobody plays the third title at the first site."""
    rng = np.random.default_rng(5)
    path = Path(titles[0]).parent / "plays.csv"
    rows = ["time,title,site,position_seconds,watched_seconds,kbps"]
    for day in range(6):
        for site, plays in (("rome", (40, 4, 0)), ("oslo", (1, 5, 30))):
            for title, mean in zip(("one", "two", "three"), plays, strict=True):
                for _ in range(rng.poisson(mean)):
                    time = (FIRST + day) * DAY + 5 * 3600 + rng.integers(0, 70_000)
                    rows.append(f"{time},{title},{site},,{rng.integers(1, 20)},3000")
    rows.append(f"{FIRST * DAY + 20_000},four,rome,,,")
    path.write_text("\n".join([*rows, ""]))
    return path


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main([*map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_fill_goes_on_from_the_last_plan(
    titles: list[str], log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["prefetch", "fill", *titles, "--log", log, "--plans", tmp_path / "plans"]
    asked += ["--site", "rome=60k", "--site", "oslo=60k"]
    first = lines(capsys, *asked)
    sites = {line["site"]: line for line in first if line["type"] == "site"}
    assert set(sites) == {"rome", "oslo"}
    for name, site in sites.items():
        files = [f for f in first if f["type"] == "file" and f["site"] == name]
        added = [f for f in files if f["action"] == "add"]
        assert sum(f["bytes"] for f in added) == site["add_bytes"] > 0
        assert {f["action"] for f in files} <= {"add", "admit"}
        assert site["planned_bytes"] == site["add_bytes"] + site["admit_bytes"] <= 60_000
        assert site["followed_days"] == 6
        assert site["fill_bits_per_second"] == pytest.approx(
            8 * site["add_bytes"] / (19 * 3600), abs=1
        )
    mostly = {name: next(f["title"] for f in first if f["type"] == "file" and f["site"] == name)
              for name in sites}  # fmt: skip
    assert mostly == {"rome": "one", "oslo": "three"}
    expected = {(t["site"], t["title"]): t for t in first if t["type"] == "title"}
    assert 25 < expected["rome", "one"]["plays"] < 50
    assert expected["rome", "one"]["low"] < 40 < expected["rome", "one"]["high"]
    assert first[-1]["result"] == {"sites": 2, "unknown_plays": 1}
    again = lines(capsys, *asked)
    assert [line for line in again if line["type"] == "file"] == []  # it is there
    smaller = lines(capsys, *asked[:-4], "--site", "rome=30k")
    removed = [f for f in smaller if f["type"] == "file"]
    assert {f["action"] for f in removed} == {"remove"}
    held = tmp_path / "held"
    held.write_text("\n".join(f["sha256"] for f in removed[:2]) + "\n" + "0" * 64 + "\n")
    told = lines(capsys, *asked[:-4], "--site", "rome=60k", "--held", f"rome={held}")
    assert told[0]["foreign_files"] == 1
    assert told[0]["add_bytes"] + told[0]["admit_bytes"] > 0
    assert main([*map(str, asked)]) == 0
    shown = capsys.readouterr().out
    assert "1 plays of other titles were left out (four)" in shown
    assert "oslo" in shown


def test_a_forecast_alone_and_a_budget(
    titles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast = tmp_path / "forecast.csv"
    forecast.write_text("title,plays\none,20\ntwo,3\n")
    asked = ["prefetch", "fill", *titles, "--forecast", forecast, "--site", "a=1M"]
    free = lines(capsys, *asked, "--fill-price", "0")
    tight = lines(capsys, *asked, "--fill-price", "0", "--fill", "20k")
    assert tight[0]["add_bytes"] <= 20_000 < free[0]["add_bytes"]
    assert tight[0]["over_budget_bytes"] == free[0]["add_bytes"] - tight[0]["add_bytes"]
    assert tight[0]["add_bytes"] + tight[0]["admit_bytes"] == free[0]["add_bytes"]
    assert {f["title"] for f in free if f["type"] == "file"} == {"one", "two"}
    assert free[0]["inside_band"] is None
    assert free[0]["share"] == 1


def test_simulate_replays_the_log(
    titles: list[str], log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["prefetch", "simulate", *titles, "--log", log, "--site", "rome"]
    replayed = lines(capsys, *asked, "--capacity", "30k", "--capacity", "100M")
    rows = {(line["capacity_bytes"], line["cache"]): line for line in replayed[:-1]}
    assert len(rows) == 8
    for (capacity, _), row in rows.items():
        assert row["net"] <= row["bytes"] <= 1
        assert capacity < 1e6 or row["bytes"] > 0.95  # all that was asked for is there
    assert rows[30_000, "plan"]["bytes"] > rows[30_000, "lru"]["bytes"]
    assert replayed[-1]["result"]["days"] == 4
    assert 0.4 < replayed[-1]["result"]["inside_band"] <= 1
    assert main([*map(str, asked), "--capacity", "30k", "--cache", "s3fifo"]) == 0
    assert "inside the 80 % band" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["fill"], "--site rome=20G"),
        (["fill", "--site", "rome"], "--site takes NAME=VALUE"),
        (["fill", "--site", "rome=1G"], "give a --log of plays"),
        (["fill", "--site", "rome=1G", "--held", "oslo=x", "--log", "LOG"], "which no --site does"),
        (["fill", "--site", "a/b=1G", "--log", "LOG", "--plans", "TMP"], "name of a site"),
        (["fill", "--site", "paris=1G", "--log", "LOG"], "no plays of site 'paris'"),
        (["fill", "--site", "rome=1G", "--log", "LOG", "--peak", "0-24"], "leave no time to fill"),
        (["fill", "--site", "rome=1G", "--log", "LOG", "--objective", "quality"], "not by quality"),
        (["fill", "--site", "rome=1G", "--log", "BAD"], "has to name the columns time, title"),
        (["simulate", "--log", "LOG", "--site", "rome"], "--capacity 20G"),
        (["simulate", "--capacity", "1G"], "give it with --log"),
        (["simulate", "--log", "LOG", "--site", "rome", "--capacity", "1G", "--warm-days", "9"],
         "nothing is left"),
        (["fill", "--log", "LOG", "--site", "rome=1G", "--site", "rome=2G"], "'rome' twice"),
        (["fill", "--log", "OLD", "--site", "rome=1G"], "from 1970-01-01 00:00:05 to 2026-01-01"),
        (["simulate", "--log", "LOG", "--site", "rome", "--capacity", "1G", "--cache", "fifo"],
         "no cache 'fifo'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    options: list[str],
    says: str,
    titles: list[str],
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("when,what\n1,2\n")
    old = tmp_path / "old.csv"
    old.write_text("time,title\n2026-01-01,one\n5,one\n")
    named = {"LOG": str(log), "BAD": str(bad), "OLD": str(old), "TMP": str(tmp_path / "plans")}
    rest = [named.get(option, option) for option in options[1:]]
    assert main(["prefetch", options[0], *titles, *rest]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "plans").exists()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("yesterday,one,,,", "ISO 8601"),
        ("5,one,,-1,", "`watched_seconds` has to be a number"),
        ("5,one", "not as many values"),
        ("nan,one,,,", "Unix seconds"),
        ("-inf,one,,,", "Unix seconds"),
        ("1767225600000,one,,,", "not milliseconds"),
    ],
)
def test_a_bad_row_is_named(
    row: str, says: str, titles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"time,title,position_seconds,watched_seconds,kbps\n2026-01-01,one,,,\n{row}\n")
    asked = ["prefetch", "simulate", *titles, "--log", str(path), "--capacity", "1G"]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "line 3" in error
