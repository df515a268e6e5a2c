"""The main job from end to end: what lies in DIR is what was measured, for every kind of title.

The run that most tests look at is by the exhaustive search, of which all can be said beforehand;
`tests/test_job_predict.py` has the default one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import RunOptions
from cluster.jobs.run import RunResult, run_title
from cluster.package.documents import read_artwork
from cluster.package.publish import ENTRIES
from cluster.stages import analysis
from cluster.stages.encodes import find_encode
from cluster.stages.title import open_title
from cluster.store import Store
from encoder import ffmpeg, framehash
from encoder.errors import BadInput, Infeasible, OutputUnwritable
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from fixtures.clips import make
from ladder.document import Ladder, Rung
from tests.running import SHORT, SMALL, contents, profile_like, quick_profile, records, run_inline
from vmaf.models import PUBLISHED, V1

HEIGHTS = (90,)
GRID = (20.0, 28.0, 36.0)


@dataclass(frozen=True)
class Finished:
    """One run that many tests look at."""

    source: Path
    out: Path
    store: Path
    result: RunResult
    events: list[events.Event]

    @property
    def ladder(self) -> Ladder:
        return self.result.ladder


PROFILE = profile_like(
    "test",
    crf_grid={"x264": list(GRID)},
    source_cap=False,
    first_rate=[3e4, 3e4],
    max_rate_ratio=4.0,
    jnd=10.0,
)


def options(source: Path, out: Path, store: Path) -> RunOptions:
    return RunOptions(
        source,
        out,
        search="exhaustive",
        preset="ultrafast",
        profile=PROFILE,
        heights=HEIGHTS,
        store=store,
        also=PUBLISHED,
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("job")
    source = make(SMALL, folder / "title.mp4")
    seen: list[events.Event] = []
    asked = options(source, folder / "out", folder / "store")
    result = run_title(asked, seen.append, InlineExecutor())
    return Finished(source, folder / "out", folder / "store", result, seen)


def decoded(arguments: Sequence[object], folder: Path, video: int = 0) -> tuple[str, ...]:
    """Hash of every frame of an input's video stream, read by ffmpeg's own demuxers."""
    listing = folder / "frames.txt"
    hashing = ffmpeg.as_arguments(framehash.hash_output_options())
    asked = ["-v", "error", *arguments, "-map", f"0:v:{video}", *hashing]
    ffmpeg.run(ffmpeg.Command.of([*asked, "-y", listing]))
    return framehash.parse(listing.read_text())


HLS = ("-allowed_extensions", "ALL", "-protocol_whitelist", "file", "-i")
DASH = ("-protocol_whitelist", "file", "-i")


def recorded(out: Path, rung: Rung) -> tuple[str, ...]:
    packed = (out / rung.init_uri).with_name("frames.hash").read_bytes()
    return tuple(packed[at : at + 16].hex() for at in range(0, len(packed), 16))


def check_package(out: Path, frames: int, folder: Path) -> Ladder:
    """Every rung decodes to the title's frames from HLS and from DASH, and is what was scored."""
    ladder = Ladder.model_validate_json((out / "ladder.json").read_bytes())
    assert ladder.title.frames == frames
    for number, rung in enumerate(ladder.rungs):
        hashes = recorded(out, rung)
        assert len(hashes) == frames
        assert decoded([*HLS, out / "master.m3u8"], folder, number) == hashes
        assert decoded([*HLS, (out / rung.init_uri).with_name("media.m3u8")], folder) == hashes
        dash = decoded([*DASH, out / "manifest.mpd"], folder, number)
        if ladder.title.audio or len(rung.segments) > 1:
            assert dash == hashes
        else:
            # One segment and no sound: ffmpeg's demuxer reads it before it is asked, then again.
            assert dash in (hashes, 2 * hashes)
    return ladder


# -- the package -------------------------------------------------------------------------------


def test_what_a_package_holds(finished: Finished) -> None:
    found = {path.name for path in finished.out.iterdir()}
    assert found == {
        "master.m3u8",
        "manifest.mpd",
        "ladder.json",
        "measurements.json",
        "prefetch.json",
        "artwork.json",
        "artwork",
        "run.json",
        "report.html",
        "video",
        "audio",
    }
    assert found <= ENTRIES
    assert (finished.out / "ladder.json").read_text() == finished.ladder.to_json()
    assert json.loads((finished.out / "run.json").read_bytes()) == finished.result.run
    assert [path.name for path in finished.out.parent.iterdir() if path.name[0] == "."] == []


def test_the_report_shows_the_run_and_frames_and_no_place_of_this_machine(
    finished: Finished,
) -> None:
    page = (finished.out / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data = json.loads(found[1])
    assert data["run"]["cpu_seconds"] == finished.result.run["cpu_seconds"]
    assert data["run"]["source"] == Path(finished.result.run["source"]).name
    assert str(Path(finished.result.run["source"]).parent) not in page
    assert data["thumbnails"]["image"].startswith("data:image/jpeg")
    assert data["worst"]["rows"][0]["images"][0][0] == "source"
    assert data["loudness"]["integrated"] is not None


def test_artwork_is_of_the_packages_shots(finished: Finished) -> None:
    artwork = read_artwork(finished.out)
    assert artwork.title.sha256 == finished.ladder.title.sha256
    segments = finished.ladder.rungs[0].segments
    for one in artwork.candidates:
        shot = segments[one.shot]
        assert shot.start_frame <= one.frame < shot.end_frame
        assert all((finished.out / r.uri).is_file() for c in one.crops for r in c.renditions)
    assert "face_model" not in finished.result.run["options"]


def test_every_rung_decodes_to_the_titles_frames(finished: Finished, tmp_path: Path) -> None:
    ladder = check_package(finished.out, 36, tmp_path)
    assert len(ladder.rungs) >= 3
    assert {rung.height for rung in ladder.rungs} == {90, 180}
    # Different rungs are different pictures: the hashes could tell.
    assert len({recorded(finished.out, rung) for rung in ladder.rungs}) == len(ladder.rungs)


def test_shots_are_the_titles_and_shared_by_all_rungs(finished: Finished) -> None:
    for rung in finished.ladder.rungs:
        assert [(s.start_frame, s.end_frame) for s in rung.segments] == [
            (0, 12),
            (12, 24),
            (24, 36),
        ]
        assert [s.shot for s in rung.segments] == [0, 1, 2]
        assert {(s.width, s.height) for s in rung.segments} == {(rung.width, rung.height)}


def test_sizes_are_exact(finished: Finished) -> None:
    seconds = 36 / Fraction(12)
    for rung in finished.ladder.rungs:
        sizes = [(finished.out / segment.uri).stat().st_size for segment in rung.segments]
        assert [segment.bytes for segment in rung.segments] == sizes
        assert rung.bitrate == round(8 * sum(sizes) / seconds)
        # One segment a second under a target duration of one: windows of one segment.
        assert rung.peak_bitrate == 8 * max(sizes)


def test_rungs_rise(finished: Finished) -> None:
    rungs = finished.ladder.rungs
    for below, above in pairwise(rungs):
        assert below.bitrate < above.bitrate
        assert below.height <= above.height
        assert below.quality[V1].mean < above.quality[V1].mean


def test_every_delivered_segment_was_measured_with_every_model(finished: Finished) -> None:
    cells = json.loads((finished.out / "measurements.json").read_bytes())["cells"]
    measured = {(c["shot"], c["width"], c["crf"]): (c["bytes"], c["quality"]) for c in cells}
    grid = {(shot, width, crf) for shot in range(3) for width in (160, 320) for crf in GRID}
    assert grid <= set(measured)
    delivered = set()
    for rung in finished.ladder.rungs:
        assert set(rung.quality) == {V1, *PUBLISHED}
        for segment in rung.segments:
            assert set(segment.quality) == {V1, *PUBLISHED}
            place = (segment.shot, segment.width, segment.crf)
            assert measured[place] == (segment.bytes, segment.quality[V1])
            delivered.add(place)
    search = finished.ladder.search
    assert (search.mode, search.grid_encodes) == ("exhaustive", 18)
    assert search.encodes == len(cells) == finished.result.run["encoded_now"]
    assert search.delivered_encodes == len(delivered)
    # The models asked for beside the title's own are measured on what is delivered only.
    assert finished.result.run["scored_now"] == len(cells) + 2 * len(delivered)


# -- quality, measured again by other means ----------------------------------------------------


def libvmaf(model: str, rung: Rung) -> str:
    """One model as libvmaf's own documentation has it."""
    factor = 180 // rung.height  # what CAMBI takes is at least 320x180
    options = {"version": model, "name": model}
    if model.startswith("vmaf_v1"):
        options |= {
            "cambi.enc_width": str(factor * rung.width),
            "cambi.enc_height": str(factor * rung.height),
            "cambi.enc_bitdepth": "8",
        }
    return r"\\:".join(f"{name}={value}" for name, value in options.items())


@pytest.fixture(scope="session")
def remeasured(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, list[float]]]:
    """Per rung and model the scores of all frames, by a plain call: the rung decoded from the
    package to a raw file, the source decoded straight, both at display size in 10 bit.
    """
    folder = tmp_path_factory.mktemp("remeasured")
    to_raw = ("-map", "0:v:0", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-f", "rawvideo")
    run = ffmpeg.run
    reference = folder / "reference.yuv"
    run(ffmpeg.Command.of(["-v", "error", "-i", finished.source, *to_raw, reference]))
    found = []
    for rung in finished.ladder.rungs:
        playlist = (finished.out / rung.init_uri).with_name("media.m3u8")
        run(ffmpeg.Command.of(["-v", "error", *HLS, playlist, *to_raw, "-y", folder / "rung.yuv"]))
        models = "|".join(libvmaf(model, rung) for model in (V1, *PUBLISHED))
        raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", 12, "-s")
        graph = (
            "[0:v]scale=320:180:flags=bicubic,format=yuv420p10le[d];[1:v]format=yuv420p10le[r];"
            f"[d][r]libvmaf=model={models}:log_fmt=json:log_path={folder / 'log.json'}"
        )
        inputs = (*raw, f"{rung.width}x{rung.height}", "-i", folder / "rung.yuv")
        inputs += (*raw, "320x180", "-i", reference)
        run(ffmpeg.Command.of(["-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"]))
        frames = json.loads((folder / "log.json").read_text())["frames"]
        assert len(frames) == 36
        found.append({m: [f["metrics"][m] for f in frames] for m in (V1, *PUBLISHED)})
    return found


def test_quality_agrees_with_an_independent_measurement(
    finished: Finished, remeasured: list[dict[str, list[float]]]
) -> None:
    for rung, scores in zip(finished.ladder.rungs, remeasured, strict=True):
        for model, values in scores.items():
            assert rung.quality[model].mean == pytest.approx(sum(values) / 36, abs=0.01)
            assert rung.quality[model].min == pytest.approx(min(values), abs=0.01)
            for segment in rung.segments:
                of_shot = values[segment.start_frame : segment.end_frame]
                mean = sum(of_shot) / len(of_shot)
                assert segment.quality[model] == pytest.approx(mean, abs=0.01)


def test_frame_scores_of_shots_are_those_of_the_whole_rung(
    finished: Finished, remeasured: list[dict[str, list[float]]], tmp_path: Path
) -> None:
    store, title = Store(finished.store), open_title(finished.source, tmp_path)
    for rung, scores in zip(finished.ladder.rungs, remeasured, strict=True):
        for segment in rung.segments:
            point = OperatingPoint(
                by_name("x264-ultrafast"), segment.width, segment.height, segment.crf
            )
            shot = Shot(segment.start_frame, segment.end_frame)
            made = find_encode(store, title, shot, point, (V1, *PUBLISHED))
            assert made is not None
            for model, values in scores.items():
                whole = values[shot.start : shot.end]
                assert list(made.scores[model]) == pytest.approx(whole, abs=0.001)


# -- again -------------------------------------------------------------------------------------


def test_again_with_the_same_store_makes_nothing(finished: Finished, tmp_path: Path) -> None:
    before = records(finished.store)
    again = run_title(
        options(finished.source, tmp_path / "out", finished.store),
        lambda event: None,
        InlineExecutor(),
    )
    assert (again.run["encoded_now"], again.run["scored_now"]) == (0, 0)
    assert contents(tmp_path / "out") == contents(finished.out)
    assert records(finished.store) == before


def test_another_store_gives_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    """From a source elsewhere too: nothing of the machine or the place is in a package."""
    source = tmp_path / "elsewhere" / finished.source.name
    source.parent.mkdir()
    source.write_bytes(finished.source.read_bytes())
    other = run_title(
        options(source, tmp_path / "out", tmp_path / "store"), lambda event: None, InlineExecutor()
    )
    assert other.run["encoded_now"] == finished.result.run["encoded_now"]
    assert contents(tmp_path / "out") == contents(finished.out)


def test_progress_adds_up(finished: Finished) -> None:
    planned = {e.stage: e.total for e in finished.events if isinstance(e, events.StagePlanned)}
    last = {e.stage: e.done for e in finished.events if isinstance(e, events.StageProgress)}
    assert planned == last
    assert next(iter(planned)) == "shots"
    assert [*planned][-4:] == ["also", "package", "verify", "report"]
    encoded = sum(total for stage, total in planned.items() if stage.startswith("encode"))
    assert encoded == finished.ladder.search.encodes


def test_the_run_document_accounts_for_the_work(finished: Finished) -> None:
    run = finished.result.run
    assert run["schema"] == "shotladder/run/1"
    assert run["source"] == str(finished.source)
    assert set(run["cpu_seconds"]) == {"encode", "vmaf", "verify", "other"}
    assert all(value > 0 for value in run["cpu_seconds"].values())
    assert run["options"]["also"] == list(PUBLISHED)


def test_keys_of_shots_change_with_the_tools_that_find_them(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_title(finished.source, tmp_path)
    before = analysis.shots_key(source)
    assert analysis.shots_key(open_title(finished.source, tmp_path)) == before
    monkeypatch.setattr(analysis, "version", lambda name: "0")
    assert analysis.shots_key(source) != before


# -- what it would cost ------------------------------------------------------------------------


def test_a_plan_counts_and_makes_nothing(finished: Finished, tmp_path: Path) -> None:
    asked = options(finished.source, tmp_path / "out", tmp_path / "store")
    plan = plan_run(asked, lambda event: None)
    assert (plan.frames, plan.shots, plan.search) == (36, 3, "exhaustive")
    assert (plan.encodes, plan.grid_encodes, plan.cached_encodes) == (18, 18, 0)
    assert [size.height for size in plan.sizes] == [90, 180]
    assert plan.delivered_encodes >= finished.ladder.search.delivered_encodes
    assert plan.cpu_hours["encode"] > 0
    assert plan.cpu_hours["vmaf"] > 0
    assert plan.wall_seconds > 0
    assert plan.store_bytes > 0
    assert not asked.out.exists()
    assert records(tmp_path / "store", "encode") == {}
    assert len(records(tmp_path / "store")) == 3  # shots, features, stills

    partly = plan_run(replace(asked, store=finished.store, heights=(60, 90)), lambda event: None)
    assert (partly.encodes, partly.grid_encodes, partly.cached_encodes) == (27, 27, 18)
    full = plan_run(replace(asked, store=finished.store), lambda event: None)
    assert (full.encodes, full.grid_encodes, full.cached_encodes) == (18, 18, 18)
    assert {full.cpu_hours[name] for name in ("analysis", "encode", "vmaf")} == {0}
    assert full.store_bytes == 0
    assert full.wall_seconds < plan.wall_seconds


# -- other titles ------------------------------------------------------------------------------


def write(path: Path, *arguments: object) -> Path:
    ffmpeg.run(ffmpeg.Command.of(["-v", "error", *arguments, path]))
    return path


LOSSLESS = ("-c:v", "ffv1", "-fflags", "+bitexact")


def one_frame(path: Path) -> Path:
    return write(path, "-f", "lavfi", "-i", "testsrc2=s=128x72", "-frames:v", 1, *LOSSLESS)


def odd_size(path: Path) -> Path:
    source = "testsrc2=s=101x77:r=12:d=1"
    return write(path, "-f", "lavfi", "-i", source, "-pix_fmt", "yuv444p", *LOSSLESS)


def slow(path: Path) -> Path:
    return write(path, "-f", "lavfi", "-i", "testsrc2=s=128x72:r=10:d=2", *LOSSLESS)


def portrait(path: Path) -> Path:
    return write(path, "-f", "lavfi", "-i", "testsrc2=s=72x128:r=24000/1001:d=0.5", *LOSSLESS)


def silent(path: Path) -> Path:
    video = ("-f", "lavfi", "-i", "testsrc2=s=128x72:r=12:d=1")
    sound = ("-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono:d=1")
    return write(path, *video, *sound, *LOSSLESS, "-c:a", "aac")


@pytest.mark.parametrize(
    ("recipe", "frames", "size", "rate"),
    [
        (one_frame, 1, (128, 72), "25/1"),
        (odd_size, 12, (100, 76), "12/1"),
        (slow, 20, (128, 72), "10/1"),
        (portrait, 12, (72, 128), "24000/1001"),
        (silent, 12, (128, 72), "12/1"),
    ],
)
def test_titles_of_all_kinds(
    recipe: Callable[[Path], Path],
    frames: int,
    size: tuple[int, int],
    rate: str,
    tmp_path: Path,
) -> None:
    source = recipe(tmp_path / "title.mkv")
    name = quick_profile()
    run_inline(source, tmp_path / "out", tmp_path / "store", profile=name)
    ladder = check_package(tmp_path / "out", frames, tmp_path)
    title = ladder.title
    assert ((title.width, title.height), title.frame_rate) == (size, rate)
    assert (ladder.rungs[-1].width, ladder.rungs[-1].height) == size
    # No sound, or nothing to be heard: no playlist of it.
    assert not title.audio
    assert not (tmp_path / "out" / "audio").exists()
    assert "AUDIO" not in (tmp_path / "out" / "master.m3u8").read_text()


# -- what cannot be ----------------------------------------------------------------------------


def refused(kind: type[Exception], match: str, source: Path, folder: Path, **asked: Any) -> None:
    """It fails with one line and leaves nothing in DIR; the store stays sound."""
    with pytest.raises(kind, match=match) as caught:
        run_inline(source, folder / "out", folder / "store", **asked)
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir() if path.name not in ("store", source.name)] == []
    if (folder / "store").exists():
        assert [*(folder / "store" / "temporary").iterdir()] == []


def test_a_ladder_that_the_constraints_forbid(tmp_path: Path) -> None:
    source = make(SHORT, tmp_path / "title.mp4")
    high = quick_profile(floor=99.9)
    refused(Infeasible, r"'worst shot'.*the floor is 99\.9", source, tmp_path, profile=high)


def test_a_source_far_smaller_than_anything_that_the_grid_makes_of_it(tmp_path: Path) -> None:
    poor = make(
        SHORT, tmp_path / "poor.mp4", ("-c:v", "libx265", "-crf", "51", "-preset", "ultrafast")
    )
    capped = profile_like("capped", crf_grid={"x264": [14, 18]}, source_cap=True)
    made = run_inline(poor, tmp_path / "out", tmp_path / "store", profile=capped)
    assert len(made.ladder.rungs) == 1
    assert made.ladder.rungs[0].bitrate > made.ladder.title.source_bitrate
    limited, raised = made.ladder.constraints
    assert re.match(r"highest rung limited to \d+ kbit/s, the least that a ladder takes", limited)
    assert re.fullmatch(r"lowest rung raised to \d+ kbit/s by the cheapest choices", raised)


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    source = make(SHORT, tmp_path / "title.mp4")
    for asked, match in (
        ({"search": "guess"}, "no search 'guess'"),
        ({"codec": "mpeg2"}, "no recipe for codec 'mpeg2'"),
        ({"preset": "warp"}, "no preset 'warp'"),
        ({"profile": "none"}, "no profile is called 'none'"),
        ({"policy": "mixed"}, "'mixed' cannot be packaged yet"),
        ({"also": ("vmaf_v7",)}, "unknown quality model 'vmaf_v7'"),
    ):
        refused(BadInput, match, source, tmp_path, **asked)
        assert not (tmp_path / "store").exists()


def test_sources_that_are_none(tmp_path: Path) -> None:
    refused(BadInput, "missing.mp4", tmp_path / "missing.mp4", tmp_path)
    poem = tmp_path / "poem.mp4"
    poem.write_text("Once upon a midnight dreary\n" * 100)
    refused(BadInput, "poem.mp4", poem, tmp_path)


def test_a_store_in_the_package_is_refused_before_any_work(tmp_path: Path) -> None:
    source = make(SHORT, tmp_path / "title.mp4")
    with pytest.raises(OutputUnwritable, match="store lies in"):
        run_inline(source, tmp_path / "out", tmp_path / "out" / "store")
    assert not (tmp_path / "out").exists()


def test_the_titles_own_model_asked_for_again(tmp_path: Path) -> None:
    source, name = make(SHORT, tmp_path / "title.mp4"), quick_profile()
    made = run_inline(source, tmp_path / "out", tmp_path / "store", profile=name, also=(V1, V1))
    assert all(set(rung.quality) == {V1} for rung in made.ladder.rungs)
    assert made.run["scored_now"] == made.run["encoded_now"]
