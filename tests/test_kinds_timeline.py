"""Kinds of sources with unusual times: exact frames, ticks and seconds of what becomes of them."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder import mp4
from encoder.analysis.frames import small_frames
from encoder.encode import encode_shot
from encoder.errors import SourceUnusable
from encoder.media import OperatingPoint, Shot
from encoder.package.audio import encode_audio
from encoder.recipes import by_name
from encoder.source import pieces
from encoder.source.choices import SourceChoices
from encoder.source.index import FrameIndex
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.reference_bytes import from_bytes, to_bytes
from encoder.source.timeline.constant_rate import conversion
from fixtures.kinds import Kind, Truth, ff
from fixtures.kinds import timeline as kinds
from tests.independent import tones
from tests.package_media import samples
from tests.reading_material import read, straight

CUT = SourceChoices(tail="cut")


def planned(path: Path, truth: Truth) -> ReferenceSource:
    choices = SourceChoices.from_document(truth.options)
    return plan_source(path, path.parent, choices)


def warnings_of(source: ReferenceSource) -> list[str]:
    findings = describe_source(source, Path(source.path))
    return [f"{one.topic}: {one.found}; {one.then}" for one in findings if one.state == "warn"]


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.file)
def test_every_kind_is_understood(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / kind.file
    truth = kind.make(path, random.Random(0))
    if truth.refused:
        with pytest.raises(SourceUnusable, match=re.escape(truth.refused)):
            planned(path, truth)
        return
    source = planned(path, truth)
    if truth.frames is not None:
        assert source.frames == truth.frames
    if truth.frame_rate is not None:
        assert source.frame_rate == truth.frame_rate
    if truth.seconds is not None:
        assert float(source.frames / source.frame_rate) == pytest.approx(
            truth.seconds, abs=1.01 / float(source.frame_rate)
        )
    if source.timeline.frame_rate < 120 and not kind.file.startswith("fast"):
        assert conversion(source.timeline, source.index).lost == 0
    if truth.says:
        assert any(truth.says in said for said in warnings_of(source)), warnings_of(source)


# -- ends --------------------------------------------------------------------------------------


def made(tmp_path: Path, kind: str, seed: int = 0) -> tuple[Path, Truth]:
    (found,) = (each for each in kinds.KINDS if each.file == kind)
    return tmp_path / kind, found.make(tmp_path / kind, random.Random(seed))


def all_reads(source: ReferenceSource, tmp_path: Path) -> None:
    """Every way of reading frames gives what the timeline says: straight, in ranges, in pieces."""
    decoded = straight(Path(source.path), source)
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    assert read(source, 0, source.frames) == expected
    middle = source.frames // 2
    for start, end in ((0, 3), (middle, middle + 5), (source.frames - 4, source.frames)):
        assert read(source, start, end) == expected[start:end]
    ranges = [(0, middle), (middle, source.frames)]
    for piece, file in pieces.cut(source, ranges, tmp_path):
        moved = pieces.reading(source, piece, file)
        assert read(moved, piece.start, piece.end) == expected[piece.start : piece.end]
    assert sum(1 for _ in small_frames(source)) == source.frames
    copy, _ = from_bytes(to_bytes(source))
    assert (copy.graph_id, copy.ends) == (source.graph_id, source.ends)
    assert copy.start_seconds == source.start_seconds


def heard(source: ReferenceSource, tmp_path: Path) -> list[float]:
    made = encode_audio(
        Path(source.path),
        source.info.audio[0].index,
        tmp_path / "sound.mp4",
        first_video_pts=source.start_seconds,
        duration=source.timeline.duration_seconds,
        channels=1,
    )
    assert made is not None
    one = samples(made)
    return tones(np.stack([one, one], axis=1) if one.ndim == 1 else one)


@pytest.mark.parametrize("kind", ["sound-earlier.mp4", "sound-earlier.mkv", "sound-earlier.ts"])
def test_the_first_picture_stands_from_where_the_sound_begins(tmp_path: Path, kind: str) -> None:
    path, truth = made(tmp_path, kind, 4)
    source = planned(path, truth)
    head = source.timeline.head
    assert head == 20  # 0.8 s at 25 fps
    shown = source.timeline.source_of
    assert shown is not None
    assert shown[: head + 2].tolist() == [0] * (head + 1) + [1]
    assert source.start_seconds == source.index.start_seconds - Fraction(head, 25)
    all_reads(source, tmp_path)
    assert heard(source, tmp_path) == pytest.approx(truth.beeps, abs=0.02)


def test_sound_before_the_first_picture_is_cut_by_choice(tmp_path: Path) -> None:
    path, truth = made(tmp_path, "sound-earlier-cut.mp4")
    source = planned(path, truth)
    assert (source.timeline.head, source.frames) == (0, 60)
    assert heard(source, tmp_path) == pytest.approx(truth.beeps, abs=0.005)
    assert [said for said in warnings_of(source) if "its first 0.800 s are cut" in said]


def test_the_last_picture_stands_until_the_sound_ends(tmp_path: Path) -> None:
    path, truth = made(tmp_path, "last-stands.mp4")
    source = planned(path, truth)
    all_reads(source, tmp_path)
    cut = plan_source(path, tmp_path, CUT)
    assert (cut.frames, cut.index.frames) == (60, 60)
    assert cut.timeline.constant
    assert source.graph_id != cut.graph_id
    (said,) = (said for said in warnings_of(cut) if said.startswith("sound"))
    assert re.search(r"its last 1\.9\d\d s are cut", said)


def test_over_ten_minutes_are_refused_and_the_way_out_leads_out(tmp_path: Path) -> None:
    path, truth = made(tmp_path, "sound-much-longer.mp4")
    with pytest.raises(SourceUnusable, match=r"stand for 10\.\d min.*--tail cut") as caught:
        planned(path, truth)
    assert "\n" not in caught.value.message
    assert plan_source(path, tmp_path, CUT).frames == 25


def test_hours_that_a_container_claims_are_not_shown(tmp_path: Path) -> None:
    path, truth = made(tmp_path, "lying-end.mp4")
    source = planned(path, truth)
    assert source.frames == truth.frames
    assert source.timeline.constant
    assert source.index.duration_seconds == pytest.approx(2, abs=0.01)


def test_sound_that_ends_about_with_the_pictures_changes_nothing(tiny_title: Path) -> None:
    source = plan_source(tiny_title, tiny_title.parent)
    assert source.timeline.constant
    assert (source.frames, source.start_seconds) == (72, source.index.start_seconds)
    assert warnings_of(source) == []


# -- rates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", kinds.MIXES, ids=lambda mix: "+".join(mix[:2]).replace("/", "_"))
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_two_rates_lose_no_frame(tmp_path: Path, mix: tuple[str, str, str], suffix: str) -> None:
    first, second, rate = map(Fraction, mix)
    path = tmp_path / f"mixed.{suffix}"
    times = kinds.mixed_times(first, second, Fraction(2))
    kinds.draw(path, times, (64, 48), last=1 / second)
    source = plan_source(path, tmp_path)
    assert (source.frame_rate, source.index.frames) == (rate, len(times))
    found = conversion(source.timeline, source.index)
    assert found.lost == 0
    assert found.shift_seconds <= 1 / (2 * rate) + Fraction(1, 1000)


def test_a_phones_frames_keep_their_places(tmp_path: Path) -> None:
    path, truth = made(tmp_path, "phone.mkv", 3)
    source = planned(path, truth)
    assert conversion(source.timeline, source.index).lost == 0
    all_reads(source, tmp_path)


def test_frames_that_collide_move_to_a_free_place(tmp_path: Path) -> None:
    """Some pictures are 60 % of a frame late, into the place of the next; then one is missing."""
    times = [Fraction(n, 30) for n in range(60) if n % 10 != 7]
    for at in range(4, len(times), 18):
        times[at] += Fraction(2, 100)
    path = tmp_path / "colliding.mp4"
    kinds.draw(path, times, (64, 48), last=Fraction(1, 30))
    source = plan_source(path, tmp_path)
    assert source.frame_rate == 30
    assert source.timeline.moved > 0
    found = conversion(source.timeline, source.index)
    assert found.lost == 0
    assert found.shift_seconds <= Fraction(1, 20)
    all_reads(source, tmp_path)
    (said,) = (said for said in warnings_of(source) if "0 of 54 never shown" in said)
    assert said.endswith(
        "off its time; each frame of the 30 fps shows the latest picture; one whose place is taken "
        "moves to the free place beside it"
    )


@pytest.mark.parametrize(
    ("rate", "kept", "frames"),
    [
        ("144", "72", 72),
        ("240", "120", 120),
        ("240000/1001", "120000/1001", 120),
        ("300", "100", 100),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_fast_rates_keep_every_second_or_third_frame(
    tmp_path: Path, rate: str, kept: str, frames: int, suffix: str
) -> None:
    path = tmp_path / f"fast.{suffix}"
    kinds.draw(path, kinds.evenly(Fraction(rate), Fraction(1001, 1000)), (64, 48),
               last=1 / Fraction(rate), clock=240_000)  # fmt: skip
    source = plan_source(path, tmp_path)
    assert (source.frame_rate, source.frames) == (Fraction(kept), frames)
    every = round(Fraction(rate) / Fraction(kept))
    shown = source.timeline.source_of
    assert shown is not None
    assert set(np.diff(shown).tolist()) == {every}
    all_reads(source, tmp_path)


def test_raw_pictures_at_240_fps_last_as_long_as_they_do(tmp_path: Path) -> None:
    kind = next(each for each in kinds.KINDS if each.file == "fast.264")
    path = tmp_path / kind.file
    kind.make(path, random.Random(6))
    source = plan_source(path, tmp_path)
    with av.open(source.path) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    assert source.timeline.duration_seconds == pytest.approx(1, abs=0.01)
    assert pictures == source.index.frames
    assert source.index.last_duration * source.index.time_base == pytest.approx(
        1 / pictures, rel=0.01
    )


# -- clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rate",
    ["23040000/767849", "10000000/333667", "1000003/33367", "10/73", "90000/1501", "119999/1000"],
)
@pytest.mark.parametrize("first", [130, 1_080_131])
def test_encodes_lie_on_the_timeline_at_any_rate(
    tiny_title: Path, tmp_path: Path, rate: str, first: int
) -> None:
    """Also ten hours into the title: only the place of the frames is made up."""
    source = plan_source(tiny_title, tmp_path)
    frame_rate = Fraction(rate) if Fraction(rate) > 5 else Fraction(rate) * 50
    shown = np.concatenate([np.zeros(first, np.int64), np.arange(24)])
    timeline = replace(
        source.timeline, frame_rate=frame_rate, frames=len(shown), source_of=shown, head=first
    )
    shot = Shot(first, first + 24)
    point = OperatingPoint(by_name("x264-ultrafast"), 96, 54, 40)
    even = replace(source, index=evenly_indexed(source, frame_rate), timeline=timeline)
    (made,), _ = encode_shot(even, shot, [point], tmp_path)
    init, media = made.init_path.read_bytes(), made.media_path.read_bytes()
    ticks = mp4.timescale_for(frame_rate) / frame_rate
    found = sorted(sample.composition_time for sample in mp4.sample_table(init, media))
    assert found == [ticks * number for number in range(shot.start, shot.end)]


def evenly_indexed(source: ReferenceSource, frame_rate: Fraction) -> FrameIndex:
    """The source's index, on a clock that makes its frames come at ``frame_rate``."""
    tick = 1 / (frame_rate * 512)
    assert set(np.diff(source.index.pts).tolist()) == {512}
    return replace(source.index, time_base=tick)


def test_a_first_frame_off_the_grid_does_not_put_the_rest_on_a_border(tmp_path: Path) -> None:
    """A capture at 60 fps whose first frame came 7 ms late, with jitter and frames left out."""
    chance = random.Random(1)
    numbers = [n for n in range(1, 180) if chance.random() > 0.04]
    late = Fraction(7, 1000)
    times = [Fraction(0)]
    times += [n / Fraction(60) - late + Fraction(chance.randint(-15, 15), 6000) for n in numbers]
    path = tmp_path / "capture.mkv"
    kinds.draw(path, times, (64, 48), last=Fraction(1, 60))
    source = plan_source(path, tmp_path)
    found = conversion(source.timeline, source.index)
    assert float(source.frame_rate) == pytest.approx(60, rel=0.002)
    assert (found.lost, source.timeline.moved) == (0, 0)
    all_reads(source, tmp_path)


def test_a_last_picture_that_stands_may_be_followed_by_a_packet_of_another(tmp_path: Path) -> None:
    """MP4 has the long duration at the picture that is decoded last, a B-frame before the end."""
    path = tmp_path / "reordered.mp4"
    ff(
        *("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2", "-c:v", "libx264"),
        *("-bf", 2, "-g", 50, "-x264-params", "b-adapt=0", "-bsf:v"),
        *(r"setts=duration=if(eq(N\,49)\,75*DURATION\,DURATION)", path),
    )
    source = plan_source(path, tmp_path)
    assert source.timeline.duration_seconds > Fraction(45, 10)


@pytest.mark.parametrize("kind", ["still.mp4", "slides.mp4"])
def test_frames_far_into_a_picture_that_stands_are_read(tmp_path: Path, kind: str) -> None:
    path, truth = made(tmp_path, kind, 1)
    source = planned(path, truth)
    assert source.timeline.source_of is not None
    decoded = straight(path, source)
    expected = [decoded[source.timeline.source_frame(n)] for n in range(source.frames)]
    for start, end in ((source.frames - 1, source.frames), (source.frames - 9, source.frames - 4)):
        assert read(source, start, end) == expected[start:end]
    all_reads(source, tmp_path)
