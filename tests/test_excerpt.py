"""A part of a source: where it is cut, sound in time, and that nobody takes it for the whole."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import events
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.package.package import Package
from cluster.service.options import JobOptions
from cluster.service.queue.work import run_options
from cluster.stages.analysis import shots_key
from cluster.stages.title import Title, open_title
from encoder.errors import BadInput
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio
from encoder.source.excerpt import choose
from encoder.source.part import ExcerptChoices, read_seconds
from tests.package_media import onset, samples
from tests.running import quick_profile, run_inline

SECONDS = 12
FLASHES = (1.0, 4.6, 8.2)
"""Times at which the picture is white and a beep sounds, for 0.2 s."""


def source(path: Path, *codec: str) -> Path:
    """Twelve seconds at 25 fps with a keyframe every two, and subtitles."""
    on = "+".join(f"between(t,{at},{at + 0.199})" for at in FLASHES)
    words = path.with_suffix(".srt")
    words.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nfirst\n\n2\n00:00:06,500 --> 00:00:07,500\nsecond\n"
    )
    graph = (
        f"testsrc2=size=160x96:rate=25:duration={SECONDS},"
        f"drawbox=color=white:t=fill:enable='{on}'[v];"
        f"aevalsrc='0.5*sin(2*PI*1000*t)*({on})':s=48000:d={SECONDS}[a]"
    )
    asked = codec or ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2")
    run(
        Command.of(
            [
                *("-v", "error", "-i", words, "-filter_complex", graph, "-map", "[v]"),
                *("-map", "[a]", "-map", "0:s", *asked, "-g", 50, "-keyint_min", 50),
                *("-sc_threshold", 0, "-c:a", "aac", "-metadata:s:a:0", "language=fre", path),
            ]
        )
    )
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("film") / "film.mkv")


# -- which part --------------------------------------------------------------------------------

STARTS = np.arange(0, 100, 2.0)
EVEN = np.full(50, 1000.0)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (ExcerptChoices(start=10.5, duration=4), (5, 7)),
        (ExcerptChoices(start=10, duration=1), (5, 6)),
        (ExcerptChoices(duration=5), (0, 2)),
        (ExcerptChoices(start=97), (48, 50)),
        (ExcerptChoices(start=90, duration=500), (45, 50)),
        (ExcerptChoices(sample=10), (22, 27)),  # all alike: the middle
        (ExcerptChoices(sample=500), (0, 50)),
    ],
)
def test_a_part_begins_and_ends_at_keyframes(wanted: ExcerptChoices, part: tuple[int, int]) -> None:
    first, last = choose(STARTS, wanted, 100.0, EVEN, "film")
    if wanted.sample == 10:
        assert last - first == 5
        assert abs((first + last) / 2 - 25) <= 0.5
    else:
        assert (first, last) == part


def test_a_sample_is_as_hard_as_the_title() -> None:
    sizes = np.where(np.arange(50) < 25, 100.0, 2000.0)
    sizes[40:45] = 1050.0  # the mean of the title
    first, last = choose(STARTS, ExcerptChoices(sample=10), 100.0, sizes, "film")
    mean = sizes.mean()
    rates = [sizes[n : n + 5].mean() for n in range(46)]
    assert abs(np.log(sizes[first:last].mean() / mean)) <= min(
        abs(np.log(rate / mean)) for rate in rates
    ) + 0.01  # fmt: skip


def test_a_part_beyond_the_end_is_refused() -> None:
    with pytest.raises(BadInput, match=r"film lasts 100\.0 s"):
        choose(STARTS, ExcerptChoices(start=100), 100.0, EVEN, "film")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("2m", 120), ("1h30m", 5400), ("1:30", 90), ("1:02:03.5", 3723.5), ("45s", 45)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


def test_a_clock_has_no_negative_parts() -> None:
    with pytest.raises(ValueError, match="negative"):
        read_seconds("1:-5")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sample": 10.0, "start": 1.0}, "sample chooses a part itself"),
        ({"start": -1.0}, "start is -1 s"),
        ({"start": float("nan")}, "start is nan s"),
        ({"duration": 0.5}, "duration is 0.5 s; give at least 1 s"),
        ({"duration": float("nan")}, "duration is nan s; give at least 1 s"),
        ({"sample": float("inf")}, "sample is inf s; give at least 1 s"),
    ],
)
def test_parts_that_cannot_be_are_refused(options: dict[str, float], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        LadderRequest.of(RunOptions(Path("in.mp4"), Path("out"), **options))


def test_jobs_ask_alike() -> None:
    asked = run_options(JobOptions.model_validate({"start": 60, "duration": 120}), Path(), Path())
    assert asked.part == ExcerptChoices(60, 120)
    assert not {"start", "duration", "sample"} & set(JobOptions().model_dump())


# -- media -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mkv", ()),
        ("mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0",
                 "-c:s", "mov_text")),
        ("mov", ("-c:v", "prores_ks", "-profile:v", "0", "-c:s", "mov_text")),
    ],
)  # fmt: skip
def test_pictures_and_sound_stay_together(
    ending: str, codec: tuple[str, ...], tmp_path: Path
) -> None:
    path = source(tmp_path / f"film.{ending}", *codec)
    title = open_title(path, tmp_path, part=ExcerptChoices(start=4.0, duration=4.0))
    whole = open_title(path, tmp_path / "whole")
    reference, excerpt = title.reference, title.excerpt
    assert excerpt is not None
    assert abs(excerpt.start_seconds - 4) < Fraction(1, 20)
    assert reference.frame_rate == 25
    assert abs(reference.frames - 25 * excerpt.seconds) <= 3  # leading pictures of an open GOP
    assert excerpt.source_sha256 == whole.sha256
    assert title.sha256 not in ("", whole.sha256)
    assert abs(excerpt.of_seconds - SECONDS) < Fraction(1, 10)
    sound = encode_audio(
        Path(reference.path),
        reference.info.audio[0].index,
        tmp_path / "a.mp4",
        first_video_pts=reference.start_seconds,
        duration=reference.timeline.duration_seconds,
    )
    assert sound is not None
    assert reference.info.audio[0].language == whole.reference.info.audio[0].language
    flash = 4.6 - float(excerpt.start_seconds)
    assert onset(samples(sound)) == pytest.approx(flash, abs=0.03)


def test_the_same_times_are_the_same_part(film: Path, tmp_path: Path) -> None:
    """What a user writes may differ; where the part is cut does not."""
    found = [
        open_title(film, tmp_path / str(n), part=part).sha256
        for n, part in enumerate(
            (
                ExcerptChoices(start=4.0, duration=4.0),
                ExcerptChoices(start=5.0, duration=3.2),
                ExcerptChoices(start=6.0, duration=4.0),
            )
        )
        if not (tmp_path / str(n)).mkdir()
    ]
    assert found[0] == found[1] != found[2]


@pytest.fixture(scope="module")
def made(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, seen = tmp_path_factory.mktemp("made"), list[events.Event]()
    out, store = folder / "out", folder / "store"
    common = {"profile": quick_profile(), "heights": (96,), "search": "exhaustive"}
    run_inline(film, out, store, seen.append, start=4.0, duration=4.0, **common)
    return out, store, seen, common


def test_the_package_says_that_it_is_a_part(made: Any, film: Path) -> None:
    out, _, seen, _ = made
    title = Package.open(out).ladder.title
    assert title.source == "film.mkv [0:00:04.0 to 0:00:08.0 of 0:00:12.0]"
    assert title.excerpt is not None
    assert (title.excerpt.start_seconds, title.excerpt.seconds) == (4.0, 4.0)
    assert title.frames == 100
    assert title.source in (out / "report.html").read_text()
    said = [event.message for event in seen if isinstance(event, events.Noted)]
    assert any(
        message.startswith("only a part of the source is made: film.mkv [") for message in said
    )
    run = json.loads((out / "run.json").read_text())
    assert (run["options"]["start"], run["options"]["duration"]) == (4.0, 4.0)
    assert "sample" not in run["options"]


def test_sound_and_subtitles_of_the_part_are_in_time(made: Any) -> None:
    out, *_ = made
    sound = samples(out / "audio/media.m3u8", "-map", "0:a:0")
    assert onset(sound) == pytest.approx(0.6, abs=0.03)
    (text,) = (out / "subtitles").rglob("subtitles.vtt")
    assert "00:02.500 --> " in text.read_text()
    assert "first" not in text.read_text()


def test_the_package_can_be_verified_against_its_source(made: Any, film: Path) -> None:
    out, *_ = made
    assert Package.open(out).verify_source(film).pictures > 0


def test_the_whole_shares_nothing_with_its_part(film: Path, tmp_path: Path) -> None:
    whole = open_title(film, tmp_path)
    part = open_title(film, tmp_path, part=ExcerptChoices(duration=SECONDS))
    assert part.reference.frames == whole.reference.frames
    assert part.id != whole.id
    assert shots_key(part) != shots_key(whole)
    assert Title("film.mkv", whole, ()).facts(audio=True).excerpt is None
    assert "excerpt" not in Title("film.mkv", whole, ()).facts(audio=True).model_dump()
