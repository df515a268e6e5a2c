from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.package.audio import nearest_cut
from encoder.package.layout import (
    Rendition,
    TitlePackage,
    VideoSegment,
    buffered_bitrate,
    peak_bitrate,
    target_duration,
)


def test_peak_counts_runs_of_half_to_one_and_a_half_targets() -> None:
    # Target 4: runs of 2 to 6 s count. The 1 s segment alone (900 bit/s) does not; with its
    # neighbours it makes 1000 bits in 3 s and 1000 bits in 2 s.
    bits, durations = [100, 900, 100], [Fraction(2), Fraction(1), Fraction(1)]
    assert peak_bitrate(bits, durations, 4) == pytest.approx(500)
    # With target 2 the short one counts alone.
    assert peak_bitrate(bits, durations, 2) == pytest.approx(900)


def test_peak_counts_the_bounds_themselves() -> None:
    assert peak_bitrate([100, 50], [2, 10], 4) == pytest.approx(50)  # 2 s is half of 4
    assert peak_bitrate([10, 90], [3, 3], 4) == pytest.approx(30)  # 3 s alone and 6 s together
    assert peak_bitrate([90, 90], [Fraction(19, 10), Fraction(401, 100)], 4) == pytest.approx(
        180 / 5.91
    )


def test_a_title_shorter_than_half_a_target_has_its_overall_rate() -> None:
    assert peak_bitrate([100], [Fraction(1, 10)], 1) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("bits", "durations"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 1.0], [1.0, 0.0])]
)
def test_peak_refuses_what_has_no_rate(bits: list[float], durations: list[float]) -> None:
    with pytest.raises(ValueError, match="as many positive durations"):
        peak_bitrate(bits, durations, 4)


RUNS = st.lists(
    st.tuples(st.integers(1, 10_000), st.fractions(Fraction(1, 10), 6, max_denominator=50)),
    min_size=1,
    max_size=12,
)


@given(RUNS)
def test_peak_is_what_looking_at_every_run_finds(runs: list[tuple[int, Fraction]]) -> None:
    bits, durations = [b for b, _ in runs], [d for _, d in runs]
    target = target_duration(durations)
    rates = [
        sum(bits[i:j]) / float(sum(durations[i:j]))
        for i in range(len(bits))
        for j in range(i + 1, len(bits) + 1)
        if target <= 2 * sum(durations[i:j]) <= 3 * target
    ]
    overall = sum(bits) / float(sum(durations))
    assert peak_bitrate(bits, durations, target) == pytest.approx(max(rates, default=overall))


@given(RUNS)
def test_the_buffered_rate_plays_without_a_stall_and_no_lower_rate_does(
    runs: list[tuple[int, Fraction]],
) -> None:
    bits, durations = [b for b, _ in runs], [float(d) for _, d in runs]
    rate = buffered_bitrate(bits, durations, 4.0)

    def stalls(rate: float) -> bool:
        for first in range(len(bits)):
            arrived, due = 0.0, 4.0
            for size, duration in zip(bits[first:], durations[first:], strict=True):
                arrived += size / rate
                if arrived > due * (1 + 1e-9):
                    return True
                due += duration
        return False

    assert not stalls(rate)
    assert stalls(rate * 0.999)


def test_target_is_the_longest_shot_rounded_up_and_sound_may_end_a_frame_later() -> None:
    assert target_duration([Fraction(6), Fraction(2)]) == 6
    assert target_duration([Fraction(6006, 1000)]) == 7
    assert target_duration([Fraction(6)], [Fraction(601, 100)]) == 6
    assert target_duration([Fraction(2)], [Fraction(25, 10)]) == 3
    assert target_duration([Fraction(1, 10)]) == 1


def test_nearest_audio_frame() -> None:
    ends = [1024, 2048, 3072]
    times = (0, 511, 513, 1500, 1537, 2048, 3072, 9999)
    assert [nearest_cut(ends, Fraction(time)) for time in times] == [0, 0, 1, 1, 2, 2, 3, 3]


def shot(start: int, end: int) -> VideoSegment:
    return VideoSegment(start, end, b"", 0, "", "")


def test_layouts_that_contradict_themselves_are_refused() -> None:
    def build(*shots: tuple[int, int], names: tuple[str, ...] = ("a",)) -> TitlePackage:
        segments = (shot(0, 10), shot(10, 20))
        rungs = tuple(Rendition(name, b"", segments) for name in names)
        return TitlePackage(Fraction(24), shots, rungs)

    package = build((0, 10), (10, 20))
    assert package.duration == Fraction(20, 24)
    assert package.boundaries == (Fraction(10, 24), Fraction(20, 24))
    with pytest.raises(ValueError, match="follow each other"):
        build((0, 10), (11, 20))
    with pytest.raises(ValueError, match="follow each other"):
        build()
    with pytest.raises(ValueError, match="the title's shots are"):
        build((0, 12), (12, 20))
    with pytest.raises(ValueError, match="different names"):
        build((0, 10), (10, 20), names=("a", "a"))
    with pytest.raises(ValueError, match="name is letters"):
        build((0, 10), (10, 20), names=("../up",))
