"""Files made to do harm, limits of child processes, and a short run of the fuzzer."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.cli import main
from cluster.jobs.source_findings import examine_source
from cluster.stages.title import open_title
from encoder.errors import BadInput, Infeasible, SourceUnusable, ToolFailed, ToolTimedOut
from encoder.ffmpeg import MEMORY_VARIABLE, Command, Limits, default_limits, run, run_python
from encoder.package.subtitles import extract
from encoder.source import sandbox
from encoder.source.colour.dolby_vision import dolby_vision_in
from encoder.source.opening import sniff
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.reference_bytes import to_bytes
from encoder.source.sandbox import plan_guarded
from tests import fuzz

pytestmark = pytest.mark.usefixtures("probed_apart")

NO_LIMIT = Limits(memory_bytes=8 << 30, cpu_seconds=60, output_bytes=1 << 30)
ENDLESS = "testsrc2=size=320x180:rate=25"


def clip(path: Path, *arguments: str | Path) -> Path:
    run(Command.of(["-v", "error", "-y", *arguments, path]), timeout_seconds=60)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.mp4"
    return clip(path, *fuzz.CLIPS["h264.mp4"])


# -- limits of children --------------------------------------------------------------------------


def test_a_child_that_uses_too_much_cpu_time_is_ended():
    limits = replace(NO_LIMIT, cpu_seconds=1)
    endless = Command.of(["-v", "error", "-f", "lavfi", "-i", ENDLESS, "-f", "null", "-"])
    with pytest.raises(ToolTimedOut, match="exceeded its limit of CPU time"):
        run(endless, timeout_seconds=120, limits=limits)


def test_a_child_that_writes_too_much_is_ended(tmp_path: Path):
    limits = replace(NO_LIMIT, output_bytes=1 << 20)
    endless = ["-v", "error", "-f", "lavfi", "-i", ENDLESS, "-c:v", "rawvideo", "-f", "nut"]
    with pytest.raises(ToolFailed, match="exceeded its limit of output") as caught:
        run(Command.of([*endless, tmp_path / "out.nut"]), timeout_seconds=120, limits=limits)
    assert caught.value.context["returncode"] == 1  # not a kill that is worth another try
    assert (tmp_path / "out.nut").stat().st_size <= 1 << 20


def test_a_child_that_wants_too_much_memory_fails_alone():
    limits = replace(NO_LIMIT, memory_bytes=600 << 20)
    large = "color=size=16000x16000:rate=1:duration=1,format=gbrp16le,reverse"
    command = Command.of(["-v", "error", "-f", "lavfi", "-i", large, "-f", "null", "-"])
    # ffmpeg may give up with exit code 0; what an encode lacks then, the count of its frames says.
    try:
        said = run(command, timeout_seconds=120, limits=limits).stderr
    except ToolFailed as failed:
        said = str(failed.context["stderr"])
    assert "Cannot allocate memory" in said


@pytest.fixture
def confessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says under which limits it runs, in place of ffmpeg and of Python."""
    program = tmp_path / "confess"
    # A moment later: limits are set on a process that has just been started.
    limits = "ulimit -v; ulimit -t; ulimit -f; ulimit -c"
    program.write_text(f"#!/bin/bash\ncat >/dev/null\nsleep 0.2\n{limits}\n")
    program.chmod(0o755)
    monkeypatch.setattr("encoder.ffmpeg.binary", lambda: str(program))
    monkeypatch.setattr("sys.executable", str(program))
    return program


@pytest.mark.usefixtures("confessing")
def test_every_child_has_limits_of_memory_time_and_output(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "3")
    cores = len(os.sched_getaffinity(0))
    # In kB of memory, seconds, kB of output, blocks of core dumps.
    by_default = [3 << 20, 11 * cores, 64 << 20, 0]
    said = run(Command.of([]), timeout_seconds=11).stdout
    assert [int(line) for line in said.split()] == by_default
    limits = Limits(memory_bytes=1 << 30, cpu_seconds=5, output_bytes=7 << 20)
    asked = [1 << 20, 5, 7 << 10, 0]
    said = run(Command.of([]), timeout_seconds=11, limits=limits).stdout
    assert [int(line) for line in said.split()] == asked
    said = run_python("any", b"", timeout_seconds=11, limits=limits)
    assert [int(line) for line in said.split()] == asked


def test_a_flood_of_text_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = tmp_path / "words.srt"
    line = "x" * 1_000
    cue = "{0}\n00:00:{0:02d},000 --> 00:00:{0:02d},900\n{1}\n\n"
    words.write_text("".join(cue.format(number, line) for number in range(1, 40)))
    clip(tmp_path / "t.mkv", *("-i", words, "-c:s", "srt"))
    assert len(extract(tmp_path / "t.mkv", 0)[0]) > 39_000
    monkeypatch.setattr("encoder.package.subtitles.MAX_BYTES", 10_000)
    with pytest.raises(SourceUnusable, match=r"more than anybody reads; leave it out with"):
        extract(tmp_path / "t.mkv", 0)


def test_the_memory_limit_can_be_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "1.5")
    assert default_limits(10).memory_bytes == 3 << 29
    for nonsense in ("much", "0", "-1", "nan"):
        monkeypatch.setenv(MEMORY_VARIABLE, nonsense)
        with pytest.raises(BadInput, match=MEMORY_VARIABLE):
            default_limits(10)


# -- the probe process ---------------------------------------------------------------------------


def test_a_source_is_planned_alike_in_a_process_of_its_own(small: Path, tmp_path: Path):
    there, here = plan_guarded(small, tmp_path), plan_source(small, tmp_path)
    assert there.info == here.info
    assert there.timeline.frame_rate == here.timeline.frame_rate
    assert there.index.pts.tolist() == here.index.pts.tolist()


def test_refusals_come_through_with_their_class(tmp_path: Path):
    with pytest.raises(SourceUnusable, match="no such file"):
        plan_guarded(tmp_path / "none.mp4", tmp_path)


def test_a_file_that_crashes_or_starves_its_reader_is_one_line(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 80 << 20)  # less than Python itself needs
    with pytest.raises(SourceUnusable, match=r"probing it failed \(the child process ") as caught:
        plan_guarded(small, tmp_path)
    assert "\n" not in caught.value.message


class Harm:
    """Pickled, it asks whoever loads it to run something."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def answered(change: Callable[[Any], Any]) -> Callable[[Path], bytes]:
    """An honest answer about a file, but for one change of its plan."""

    def answer(path: Path) -> bytes:
        planned = change(plan_source(path, path.parent))
        return b"plan\n" + to_bytes(planned, timed="")

    return answer


def turned(planned: ReferenceSource) -> ReferenceSource:
    return replace(planned, info=replace(planned.info, orientation=("movie=/etc/passwd",)))


def shown_twice(planned: ReferenceSource) -> ReferenceSource:
    beyond = np.arange(1, planned.index.frames + 1, dtype=np.int64)
    return replace(planned, timeline=replace(planned.timeline, source_of=beyond))


def unordered(planned: ReferenceSource) -> ReferenceSource:
    return replace(planned, index=replace(planned.index, pts=planned.index.pts[::-1].copy()))


def elsewhere(path: Path) -> bytes:
    planned = plan_source(path, path.parent)
    return b"plan\n" + to_bytes(planned, timed="mkv")


@pytest.mark.parametrize(
    "answer",
    [
        lambda path: pickle.dumps(Harm(path.parent / "owned")),
        lambda path: b"plan\n" + pickle.dumps(Harm(path.parent / "owned")),
        lambda path: b"",
        lambda path: b'error\n["Path", "owned", {}]',
        lambda path: b'error\n["_rebuild", "owned", {}]',
        lambda path: b'error\n["BadInput", {"not": "text"}, {}]',
        lambda path: b'error\n["BadInput", "twice", {"message": "twice"}]',
        lambda path: b"error\n[1",
        lambda path: answered(lambda planned: planned)(path)[:-8],
        answered(turned),
        answered(shown_twice),
        answered(unordered),
        elsewhere,
    ],
)
def test_a_reader_that_was_taken_over_is_not_believed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer
):
    path = tmp_path / "small.mp4"
    path.write_bytes(small.read_bytes())
    content = answer(path)
    monkeypatch.setattr(sandbox, "run_python", lambda *args, **options: content)
    with pytest.raises(SourceUnusable, match=r"unexpected data .* may be malicious") as caught:
        plan_guarded(path, tmp_path)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "owned").exists()


def test_an_honest_answer_of_the_same_form_is_believed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = answered(lambda planned: planned)(small)
    monkeypatch.setattr(sandbox, "run_python", lambda *args, **options: content)
    assert plan_guarded(small, tmp_path).info == plan_source(small, tmp_path).info
    refusal = b'error\n["Infeasible", "two\\nlines", {"frame": 3}]'
    monkeypatch.setattr(sandbox, "run_python", lambda *args, **options: refusal)
    with pytest.raises(Infeasible, match="two lines") as caught:
        plan_guarded(small, tmp_path)
    assert caught.value.context == {"frame": 3}


def test_no_more_of_an_answer_is_read_than_a_plan_can_have(confessing: Path):
    said = run_python("any", b"", timeout_seconds=11, limits=NO_LIMIT, most_bytes=5)
    assert len(said) == 5


@pytest.mark.parametrize(
    "file", ["hdr10.mp4", "gaps.mkv", "raw.264", "interlaced.mp4", "angles.mkv"]
)
def test_every_kind_of_plan_is_answered(awkward_clip, tmp_path: Path, file):
    planned = plan_guarded(awkward_clip(file), tmp_path)
    assert planned.graph_id == plan_source(awkward_clip(file), tmp_path).graph_id
    assert planned.frames > 0


# -- files made by hand --------------------------------------------------------------------------


class Listener:
    """A server that must never be called."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.called = False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/secret.ts"

    def _listen(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self.socket.accept()
            except TimeoutError:
                continue
            self.called = True
            connection.close()

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.socket.close()


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n", "playlist"),
        ("ffconcat version 1.0\nfile '{target}'\n", "concat script"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", "session description"),
        (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
            "<BaseURL>{target}</BaseURL></Period></MPD>",
            "XML",
        ),
    ],
)
def test_what_names_other_files_is_refused_and_opens_nothing(tmp_path: Path, text, said, suffix):
    secret = tmp_path / "secret.ts"
    clip(secret, *fuzz.CLIPS["h264.ts"])
    listener = Listener()
    try:
        for target in (f"file://{secret}", str(secret), listener.url):
            path = tmp_path / f"clip{suffix}"
            path.write_text(text.replace("{target}", target))
            with pytest.raises(SourceUnusable, match=said):
                plan_guarded(path, tmp_path)
        assert not listener.called
    finally:
        listener.close()


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        "-i.mp4",
        "$(touch owned).mp4",
        "`touch owned`;&|.mp4",
        "line\nbreak.mp4",
        "quote'\".mp4",
        "per%dcent%s.mp4",
        "concat:other.mp4",
        "back\\slash.mp4",
        "[brackets],{braces}.mp4",
        "grüße \N{SNOWMAN} \N{ARABIC LETTER BEH}.mp4",
        "http:example.mp4",
    ],
)
def test_names_are_only_names(small: Path, tmp_path: Path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(small.read_bytes())
    fuzz.use(path, tmp_path, encode=True)
    assert not (tmp_path / "owned").exists()
    assert examine_source(path)[0].topic == "file"


def test_names_and_languages_do_not_command_a_terminal(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "bad\n\x1b[31mname.mp4"
    path.write_bytes(b"no film")
    assert main(["doctor", str(path)]) != 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(err.splitlines()) == 1
    tongue = tmp_path / "tongue.mkv"
    tag = "language=e\x1b[31mn\n"
    clip(tongue, *("-i", small, "-map", "0", "-c", "copy", "-metadata:s:a:0", tag))
    assert main(["doctor", str(tongue)]) == 0
    out, err = capsys.readouterr()
    assert "e[31mn: aac" in out
    assert "\x1b" not in out + err


def test_a_link_is_followed_to_a_video_and_nowhere_else(small: Path, tmp_path: Path):
    link = tmp_path / "link.mp4"
    link.symlink_to(small)
    assert plan_guarded(link, tmp_path).frames == 12
    for target in ("/etc/passwd", "/dev/zero", "/proc/self/environ", tmp_path / "gone"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(SourceUnusable):
            plan_guarded(link, tmp_path)


def resized(data: bytes, width: int, height: int) -> bytes:
    """Of an MP4 of 64x48: the sizes that its headers state."""
    entry = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    return data[:entry] + struct.pack(">HH", width, height) + data[entry + 4 :]


def test_a_picture_of_100_000_lines_is_refused_before_it_is_decoded(tmp_path: Path):
    head = b"YUV4MPEG2 W100000 H100000 F25:1 Ip A1:1 C420jpeg\nFRAME\n"
    path = tmp_path / "bomb.y4m"
    path.write_bytes(head + bytes(1_000))
    with pytest.raises(SourceUnusable):
        plan_guarded(path, tmp_path)


def test_headers_that_lie_about_the_size_change_nothing(small: Path, tmp_path: Path):
    path = tmp_path / "lie.mp4"
    for width, height in ((65_535, 65_535), (16, 16)):
        path.write_bytes(resized(small.read_bytes(), width, height))
        planned = plan_guarded(path, tmp_path)
        assert (planned.width, planned.height) == (64, 48)  # what the stream itself says


@pytest.mark.parametrize(
    ("size", "said"), [("2x2", "too small"), ("640x16", "too long"), ("16x640", "too long")]
)
def test_shapes_that_make_no_ladder_are_refused(tmp_path: Path, size, said):
    path = clip(
        tmp_path / "shape.mkv",
        *("-f", "lavfi", "-i", f"color=gray:size={size}:duration=0.2", "-c:v", "ffv1"),
    )
    with pytest.raises(SourceUnusable, match=said):
        plan_guarded(path, tmp_path)


def test_a_title_of_years_is_refused_at_once(tmp_path: Path):
    path = clip(
        tmp_path / "years.mkv",
        *("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=5:duration=1"),
        *("-vf", "setpts='if(lt(N,4),N,N*30000000)'", "-fps_mode", "passthrough", "-c:v", "ffv1"),
    )
    with pytest.raises(SourceUnusable, match=r"claims to last \d+ h"):
        plan_guarded(path, tmp_path)


# -- what cannot be done right -------------------------------------------------------------------


def test_jpeg_2000_is_named_and_refused_with_the_way_out(tmp_path: Path):
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2")
    path = clip(tmp_path / "cinema.mov", *source, "-c:v", "jpeg2000")
    with pytest.raises(SourceUnusable, match=r"JPEG 2000.*transcode it"):
        open_title(path, tmp_path)


def test_dolby_vision_without_a_base_layer_is_refused(tmp_path: Path):
    path = clip(tmp_path / "dolby.mp4", *fuzz.CLIPS["hevc.mp4"])
    path.write_bytes(path.read_bytes().replace(b"hvc1", b"dvh1"))
    with pytest.raises(SourceUnusable, match=r"Dolby Vision profile 5"):
        open_title(path, tmp_path)


def test_dolby_vision_is_read_from_its_configuration():
    record = bytes([1, 0, 8 << 1, 0x25, 1 << 4]) + bytes(19)
    found = dolby_vision_in(b"junk" + struct.pack(">I", 32) + b"dvvC" + record)
    assert found is not None
    assert (found.profile, found.compatibility) == (8, 1)
    assert dolby_vision_in(b"dvcC by chance in media data, and more of it") is None


@pytest.mark.parametrize(("transfer", "kind"), [("smpte2084", "pq"), ("arib-std-b67", "hlg")])
def test_high_dynamic_range_in_strange_colours_is_refused_in_one_line(
    tmp_path: Path, transfer, kind
):
    path = clip(
        tmp_path / "hdr.mkv",
        *("-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2"),
        *("-vf", f"setparams=color_primaries=smpte432:color_trc={transfer}:colorspace=bt709"),
        *("-pix_fmt", "yuv420p10le", "-c:v", "ffv1"),
    )
    with pytest.raises(SourceUnusable, match=rf"\({kind}\) with smpte432.*convert") as caught:
        open_title(path, tmp_path)
    assert "\n" not in caught.value.message
    colour = next(f for f in examine_source(path) if f.topic == "colour")
    assert colour.state == "bad"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xef\xbb\xbf#EXTM3U\n", "HLS playlist"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", "PNG"),
        (b"PK\x03\x04", "ZIP"),
        (b"\0" * 100 + bytes.fromhex("060e2b34020501010d010201"), "MXF"),
    ],
)
def test_common_strangers_are_named(head, name):
    assert name in (sniff.kind(head) or "")
    assert sniff.kind(b"no idea") is None


def test_metadata_that_is_no_unicode_is_no_obstacle(small: Path, tmp_path: Path):
    data = small.read_bytes()
    path = tmp_path / "latin.mp4"
    path.write_bytes(data.replace(b"SoundHandler", b"Ger\xe4uschbox!"))
    assert path.read_bytes() != data
    assert plan_guarded(path, tmp_path).frames == 12


# -- by the thousand -----------------------------------------------------------------------------


def test_a_short_run_of_the_fuzzer(tmp_path: Path):
    # The fuzzer forks. In the process of the tests, which has threads of other tests' clusters,
    # a fork may come while a thread holds a lock that nobody would ever give back to the child.
    kept = tmp_path / "cases.jsonl"
    line = [sys.executable, "-m", "tests.fuzz", "40", "20261", "--encode-every", "8"]
    done = subprocess.run(
        [*line, "--no-kinds", "--kept", kept], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [fuzz.Case(**json.loads(case)) for case in kept.read_text().splitlines()]
    assert len(found) == 40
    assert [case for case in found if not case.fine] == []
    counts = Counter(case.outcome for case in found)
    # Damage that is always refused, or never, would test nothing.
    assert counts[fuzz.USED] >= 5
    assert counts[fuzz.REFUSED] >= 5


def test_damage_is_the_same_for_the_same_seed(tmp_path: Path):
    clips = {"a.mp4": bytes(range(256)) * 8, "b.mkv": b"\x1a\x45\xdf\xa3" + bytes(900)}
    boxes = dict.fromkeys(("h264.mp4", "fast.mp4", "fragments.mp4"), clips["a.mp4"])
    first, second = (list(fuzz.cases(30, 7, clips | boxes)) for _ in range(2))
    assert first == second
    assert first != list(fuzz.cases(30, 8, clips | boxes))
