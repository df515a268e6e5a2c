"""Damage that decoders conceal is counted and said, also if the analysis comes from the store."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import RunResult, run_title
from cluster.stages.analysis import find_shots, known_damage
from cluster.stages.damage import NO_DAMAGE, Damage
from cluster.stages.quarantine import title_store
from cluster.stages.title import open_title
from cluster.store import open_store
from encoder.analysis.damage import DamageCounter, PictureDamage
from encoder.analysis.frames import feed, small_frames
from encoder.source.planning import plan_source
from encoder.source.sound.undecoded import undecoded_packets
from encoder.source.transport.continuity import ContinuityCounter, TransportDamage, transport_damage
from fixtures.kinds import X264, damage, ff
from tests.matrix import quick_profile

QUIET_HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "pools=1:log-level=none")


def found_in(path: Path, workdir: Path) -> PictureDamage:
    counter = DamageCounter()
    feed(small_frames(plan_source(path, workdir), damage=counter))
    return counter.found


@pytest.mark.parametrize("file", ["flipped.mp4", "flipped.avi", "flipped.mov"])
def test_marked_pictures_are_counted(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    damage.make_flipped(path, random.Random(0))
    found = found_in(path, tmp_path)
    assert found.pictures >= 3
    assert found.first_seconds is not None
    assert 0 < found.first_seconds < 3


def test_a_lost_slice_damages_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "slice.mp4"
    frames = damage.write_clean(
        path, random.Random(0), (*X264, "-bf", 0, "-x264-params", "slices=3", "-c:a", "aac")
    )
    damage.lose_slice(path, 40)
    index = plan_source(path, tmp_path).index
    found = found_in(path, tmp_path)
    assert (index.frames, found.pictures) == (frames, 1)
    assert found.first_seconds == round(float((index.pts[40] - index.pts[0]) * index.time_base), 3)


def test_errors_of_a_decoder_that_marks_no_pictures_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "ffv1.mkv"
    frames = damage.write_clean(path, random.Random(0))
    damage.flip(path, [frames // 2], 0.10, 0.12)
    found = found_in(path, tmp_path)
    assert (found.pictures, found.errors) == (0, 1)
    assert found.first_error_seconds == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(
    ("file", "codec"),
    [
        ("clean.mp4", ()),
        ("clean.ts", ()),
        ("clean.avi", ()),
        ("clean.mkv", ()),
        ("hevc.mkv", (*QUIET_HEVC, "-c:a", "aac")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-cpu-used", 8, "-c:a", "libopus")),
    ],
)
def test_nothing_is_said_of_clean_files(
    file: str, codec: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / file
    damage.write_clean(path, random.Random(1), codec)
    assert found_in(path, tmp_path) == PictureDamage()
    assert transport_damage(path) == TransportDamage()
    with av.open(str(path)) as container:
        assert undecoded_packets(path, container.streams.audio[0].index) == ()


@pytest.mark.parametrize(
    "codec",
    [
        ("-c:v", "mpeg2video", "-bf", 2, "-g", 12, "-b:v", "800k"),
        (*X264, "-bf", 3, "-x264-params", "keyint=20:min-keyint=20:open-gop=1:scenecut=0"),
        (*QUIET_HEVC[:-1], "keyint=20:min-keyint=20:open-gop=1:bframes=4:pools=1:log-level=none"),
    ],
    ids=["mpeg2", "h264", "hevc"],
)
@pytest.mark.parametrize("part", [(0.15, 1), (0.4, 0.93)])
def test_recordings_begin_and_end_anywhere(
    codec: tuple[object, ...], part: tuple[float, float], tmp_path: Path
) -> None:
    """Pictures that refer to earlier ones are no damage, nor is the picture that the end cuts."""
    whole, cut = tmp_path / "whole.ts", tmp_path / "cut.ts"
    damage.write_clean(whole, random.Random(0), (*codec, "-c:a", "mp2"))
    data = whole.read_bytes()
    begin, end = (int(len(data) * share) for share in part)
    cut.write_bytes(data[begin:end])
    assert found_in(cut, tmp_path) == PictureDamage()
    assert transport_damage(cut) == TransportDamage()


@pytest.mark.parametrize("stride", [188, 192, 204])
def test_missing_transport_packets_are_counted(stride: int, tmp_path: Path) -> None:
    path = tmp_path / "lossy.ts"
    damage.write_clean(path, random.Random(0))
    damage.lose_packets(path, 7, random.Random(3))
    data = path.read_bytes()
    rows = [data[at : at + 188] for at in range(0, len(data), 188)]
    before, behind = (bytes(4), b"") if stride == 192 else (b"", bytes(stride - 188))
    path.write_bytes(b"".join(before + row + behind for row in rows))
    assert transport_damage(path) == TransportDamage(missing=7)


def test_joined_recordings_are_no_loss(tmp_path: Path) -> None:
    parts = [tmp_path / "a.ts", tmp_path / "b.ts"]
    for seed, part in enumerate(parts):
        damage.write_clean(part, random.Random(seed))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert transport_damage(joined) == TransportDamage()


def transport_packets(*heads: tuple[int, int, bool, bool]) -> np.ndarray:
    """Packets of PID 256 by counter, number of bytes of adaptation, payload and discontinuity."""
    rows = np.full((len(heads), 188), 0xFF, np.uint8)
    for row, (count, adaptation, filled, announced) in zip(rows, heads, strict=True):
        control = (0x20 if adaptation else 0) | (0x10 if filled else 0)
        row[:6] = (0x47, 0x41, 0, control | count, max(0, adaptation - 1), 0x80 * announced)
        if not adaptation:
            row[4:18] = (0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0)
    return rows


@pytest.mark.parametrize(
    ("second", "missing"),
    [
        ((1, 0, True, False), 0),
        ((3, 0, True, False), 2),
        ((0, 0, True, False), 0),  # sent twice
        ((15, 0, True, False), 14),
        ((9, 20, True, True), 0),  # announced
        ((9, 184, False, False), 0),  # without payload the counter says nothing
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_counters_are_read_as_the_standard_says(
    second: tuple[int, int, bool, bool], missing: int, split: bool
) -> None:
    usual = [(count % 16, 0, True, False) for count in range(33)]
    counter = ContinuityCounter()
    if split:
        counter.feed(0, transport_packets(*usual))
        counter.feed(33, transport_packets(second))
    else:
        counter.feed(0, transport_packets(*usual, second))
    assert counter.found().missing == missing


def test_an_announcement_without_payload_excuses_the_next_packet() -> None:
    heads = [(0, 0, True, False), (0, 184, False, True), (9, 0, True, False)]
    counter = ContinuityCounter()
    counter.feed(0, transport_packets(*heads))
    assert counter.found().missing == 0


def test_sound_that_does_not_decode_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    damage.write_clean(path, random.Random(0))
    for number in (0, 30, 60):
        damage.damage_sound(path, number)
    found = undecoded_packets(path, 1)
    assert [round(float(start * 48000)) for start, _ in found] == [29 * 1024, 59 * 1024]
    assert {float(length * 48000) for _, length in found} == {1024.0}


def test_records_hold_damage_and_nothing_else_of_clean_titles() -> None:
    found = Damage(PictureDamage(2, 0.5, 3, 0.4), TransportDamage(1, 0))
    assert Damage.of(found.document()) == found
    assert NO_DAMAGE.document() == {}
    assert Damage.of({}) == NO_DAMAGE


def test_damage_is_known_from_the_store(tmp_path: Path) -> None:
    path, place = tmp_path / "marked.ts", str(tmp_path / "store")
    damage.make_marked(path, random.Random(0))
    source = open_title(path, tmp_path)
    for _ in range(2):
        find_shots(source, place)
        assert known_damage(
            source, title_store(open_store(place), source)
        ).transport == TransportDamage(0, 3)


def test_a_run_says_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    frames = damage.write_clean(path, random.Random(5))
    damage.lose_packets(path, 4, random.Random(5))
    said: list[str] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            said.append(event.message)

    def run() -> RunResult:
        options = RunOptions(
            path,
            tmp_path / "out",
            preset="ultrafast",
            profile=quick_profile({"x264": [24, 40]}),
            search="exhaustive",
            heights=(54,),
            store=tmp_path / "store",
        )
        return run_title(options, listen, InlineExecutor())

    first = run().run["damage"]
    assert first["transport"] == {"missing": 4, "marked": 0}
    told = list(said)
    assert any("4 transport packets are missing" in line for line in told)
    assert any(f"of {frames} pictures" in line or "do not decode" in line for line in told)
    said.clear()
    assert run().run["damage"] == first
    assert said == told


def test_a_clean_run_says_nothing_of_damage(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    ff("-f", "lavfi", "-i", "testsrc2=size=160x96:rate=25:duration=1", *X264, path)
    source = open_title(path, tmp_path)
    find_shots(source, str(tmp_path / "store"))
    store = title_store(open_store(str(tmp_path / "store")), source)
    assert known_damage(source, store) == NO_DAMAGE
