"""The judge of packages finds what is wrong: each deviation from the truth is told."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import shotladder
from cluster.cli import main
from fixtures.kinds import Truth, all_kinds, ff
from fixtures.kinds.plain import make_plain
from fixtures.kinds.timeline import make_sound_earlier_cut
from tests.independent import SAMPLE_RATE, cues, differences, flashes, tones
from tests.kinds import REFUSED, RIGHT, inputs, outcome_of
from tests.running import quick_profile, run_inline


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """A package of an ordinary source, and what is right for it."""
    folder = tmp_path_factory.mktemp("judged")
    truth = make_plain(folder / "plain.mp4", random.Random(1))
    run_inline(
        folder / "plain.mp4",
        folder / "out",
        folder / "store",
        heights=(90,),
        profile=quick_profile(),
        search="exhaustive",
    )
    return folder / "out", truth


def test_an_ordinary_package_is_right(judged: tuple[Path, Truth]) -> None:
    assert differences(*judged) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": 47}, "pictures instead of 47"),
        ({"frame_rate": Fraction(12)}, "fps instead of 12"),
        ({"seconds": 2.2}, "instead of 2.200 s"),
        ({"size": (320, 200)}, "instead of (320, 200)"),
        ({"flashes": (1.1,)}, "flashes at"),
        ({"flashes": (0.5, 1.0)}, "flashes at"),
        ({"beeps": (1.05,)}, "tones at"),
        ({"beeps": ()}, ""),
        ({"tracks": 2}, "1 tracks of sound instead of 2"),
        ({"tracks": 0}, "has sound"),
        ({"cues": ((0.5, 1.0, "A word"),)}, "cues [] instead of"),
        ({"cues": ()}, ""),
        ({"colours": ((0.5, 0.5, 10, 200, 10),)}, "shows"),
    ],
)
def test_each_deviation_is_told(
    judged: tuple[Path, Truth], change: dict[str, object], says: str
) -> None:
    folder, truth = judged
    wrong = differences(folder, replace(truth, **change))
    assert says in "; ".join(wrong) if says else wrong == []
    assert bool(wrong) == bool(says)


def test_tones_and_flashes_begin_where_they_begin() -> None:
    samples = np.zeros((2 * SAMPLE_RATE, 2), dtype=np.float32)
    samples[24_000:30_000, 1] = 0.5 * np.sin(np.arange(6_000))
    samples[72_000:, :] = 0.5
    assert tones(samples) == [0.5, 1.5]
    assert flashes([0, 250, 250, 0, 255], [0.0, 0.1, 0.2, 0.3, 0.4]) == [0.1, 0.4]


def test_cues_are_read_once() -> None:
    text = (
        "WEBVTT\n\n00:00.500 --> 00:01.000 line:0\n<i>One</i> &amp;\ntwo\n\n"
        "01:00:00.500 --> 01:00:02.000\nThree\n\n00:00.500 --> 00:01.000\nOne &amp;\ntwo\n"
    )
    assert cues(text) == [(0.5, 1.0, "One &\ntwo"), (3600.5, 3602.0, "Three")]


def test_inputs_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    (first, kind, chance), *_ = inputs(1, 5, "plain")
    (again, _, same), *_ = inputs(1, 5, "plain")
    assert first == again
    assert chance.random() == same.random()
    assert len(all_kinds()) == len(list(inputs(None, 0)))
    assert outcome_of(kind, tmp_path, random.Random(3)) in (RIGHT, REFUSED)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("sound/roles.mkv", "2/67-sound/roles.mkv"),  # tracks that differ by their times alone
        ("complete/allocated.mkv", "2/25-complete/allocated.mkv"),  # 16,330 zeros at the end
        ("damage/lossyhevc.ts", "7/51-damage/lossyhevc.ts"),  # conceals unlike a straight decode
    ],
)
def test_inputs_that_were_judged_wrong_once(tmp_path: Path, name: str, seed: str) -> None:
    assert outcome_of(all_kinds()[name], tmp_path, random.Random(seed)) in (RIGHT, REFUSED)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--tail", "foo"), "no tail 'foo'; choose one of hold, cut"),
        (("--program", "0"), "no programme 0; give its number, 1 to 65535"),
        (("--audio-layout", "1+"), "--audio-layout 1+"),
    ],
)
@pytest.mark.parametrize("command", ["doctor", "shots", "run"])
def test_a_choice_that_no_source_can_have_is_refused_at_once(
    command: str,
    options: tuple[str, str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "none.mp4"
    more = ("--out", str(tmp_path / "out")) if command == "run" else ()
    assert main([command, str(source), *options, *more]) != 0
    assert says in capsys.readouterr().err


def test_shots_are_those_of_the_same_choices(tmp_path: Path) -> None:
    truth = make_sound_earlier_cut(tmp_path / "late.mp4", random.Random(1))
    store = tmp_path / "store"
    held = shotladder.shots(tmp_path / "late.mp4", store=store)
    cut = shotladder.shots(tmp_path / "late.mp4", store=store, tail="cut")
    assert held.frames > cut.frames == truth.frames


def test_a_flash_between_two_fields_is_no_other_film(tmp_path: Path) -> None:
    """The flash begins with the second field of a picture at the start of a shot."""
    source, flash = tmp_path / "fields.mkv", "drawbox=w=iw:h=ih:color=white:t=fill"
    ff(
        *("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=50:duration=2"),
        *("-vf", f"{flash}:enable='between(n,3,4)',tinterlace=4", "-c:v", "mpeg2video"),
        *("-flags", "+ildct+ilme", "-q:v", 2, "-g", 12, "-bf", 0, source),
    )
    made = run_inline(
        source, tmp_path / "out", tmp_path / "store", heights=(90, 180), profile=quick_profile()
    )
    assert made.ladder.title.frames == 50
