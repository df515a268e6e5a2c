"""Sources that end early, cannot be read, are damaged, or are no videos."""

from __future__ import annotations

import errno
import io
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.execution.tasks import worth_retrying
from cluster.jobs.source_findings import describe_source
from encoder.analysis.frames import feed, small_frames
from encoder.errors import ReadFailed, SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio
from encoder.source import reference_bytes
from encoder.source.choices import SourceChoices
from encoder.source.containers.clusters import find_holes
from encoder.source.containers.promise import Promise, read_promise
from encoder.source.opening import reading
from encoder.source.planning import plan_source
from encoder.source.sandbox import plan_guarded
from fixtures.kinds import X264, beeping, complete, ff, flashing

FAILING_READ = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static long total;
static int failed;
static int is_it(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    return strstr(name, getenv("FAILING_NAME")) != NULL;
}
ssize_t read(int fd, void *buffer, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (failed || !is_it(fd)) return real(fd, buffer, count);
    if (total >= atol(getenv("FAILING_AFTER"))) { failed = 1; errno = EIO; return -1; }
    ssize_t got = real(fd, buffer, count);
    if (got > 0) total += got;
    return got;
}
"""
"""One read() of a file fails once, after so many bytes of it were read."""

CONTAINERS = ("mp4", "mkv", "avi", "flv", "ts", "mpg", "264", "y4m", "webm")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Noisy pictures with sound in every container, 3 s and over 200 kB each."""
    folder = tmp_path_factory.mktemp("complete")
    made = {}
    for suffix in CONTAINERS:
        made[suffix] = folder / f"clip.{suffix}"
        codec: tuple[object, ...] = (*X264, "-c:a", "aac")
        if suffix == "mpg":
            codec = ("-c:v", "mpeg2video", "-bf", 2, "-b:v", "800k", "-c:a", "mp2")
        elif suffix == "avi":
            codec = ("-c:v", "mpeg4", "-b:v", "800k", "-c:a", "mp3")
        elif suffix == "webm":
            codec = ("-c:v", "libvpx", "-cpu-used", 8, "-b:v", "800k", "-c:a", "libopus")
        elif suffix == "y4m":
            codec = ("-pix_fmt", "yuv420p", "-an")
        elif suffix == "264":
            codec = (*X264, "-an")
        ff(
            *("-f", "lavfi", "-i", flashing("160x96", 25, 3, ()) + ",noise=alls=12:allf=t"),
            *("-f", "lavfi", "-i", beeping(3), *codec, made[suffix]),
        )
    return made


# ── a read that fails ────────────────────────────────────────────────────────────────────────────


class _Failing(reading.SourceFile):
    """A file of which one read fails, after a share of its bytes."""

    share = 0.5

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._left = int(path.stat().st_size * self.share)

    def read(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0 and self.failure is None:
            self.failure = OSError(errno.EIO, "Input/output error")
            raise self.failure
        return super().read(count)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_failed_read_is_no_end_of_the_index(clips, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("encoder.source.opening.reading.SourceFile", _Failing)
    with pytest.raises(ReadFailed, match=r"I/O error .*, try again"):
        plan_source(clips[suffix], tmp_path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_failed_read_is_no_end_of_the_analysis(clips, tmp_path, monkeypatch, suffix):
    source = plan_source(clips[suffix], tmp_path)
    monkeypatch.setattr("encoder.source.opening.reading.SourceFile", _Failing)
    with pytest.raises(ReadFailed, match=r"I/O error .*, try again") as failed:
        feed(small_frames(source))
    assert worth_retrying(failed.value)


@pytest.fixture(scope="module")
def failing_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload, of which one read() fails."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: a read of ffmpeg itself cannot be made to fail")
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.c").write_text(FAILING_READ)
    made = folder / "failing.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", made, folder / "failing.c", "-ldl"], check=True
    )
    return made


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "flv", "ts", "mpg"])
def test_a_failed_read_of_ffmpeg_does_not_shorten_sound(
    clips, tmp_path, monkeypatch, failing_read, suffix
):
    clip = clips[suffix]
    source = plan_source(clip, tmp_path)
    monkeypatch.setenv("LD_PRELOAD", str(failing_read))
    monkeypatch.setenv("FAILING_NAME", clip.name)
    monkeypatch.setenv("FAILING_AFTER", str(clip.stat().st_size // 2))
    with pytest.raises(ReadFailed, match="I/O error"):
        encode_audio(
            clip,
            source.info.audio[0].index,
            tmp_path / "sound.mp4",
            first_video_pts=source.start_seconds,
            duration=source.timeline.duration_seconds,
        )


def test_a_failed_read_of_the_probing_process_is_told(
    probed_apart, clips, tmp_path, monkeypatch, failing_read
):
    monkeypatch.setenv("LD_PRELOAD", str(failing_read))
    monkeypatch.setenv("FAILING_NAME", "clip.mp4")
    monkeypatch.setenv("FAILING_AFTER", "1000")
    with pytest.raises(ReadFailed, match=r"I/O error .*, try again"):
        plan_guarded(clips["mp4"], tmp_path)


# ── a file that holds less than it promises ──────────────────────────────────────────────────────

ACCEPTING = SourceChoices(accept_truncated=True)


@pytest.mark.parametrize("kind", complete.KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize("seed", [0, 1])
def test_kinds(tmp_path, kind, seed):
    path = tmp_path / kind.file
    truth = kind.make(path, random.Random(seed))
    choices = SourceChoices.from_document(truth.options)
    if truth.refused:
        with pytest.raises(SourceUnusable, match=re.escape(truth.refused)):
            plan_source(path, tmp_path, choices)
        return
    source = plan_source(path, tmp_path, choices)
    warned = [f"{f.found}: {f.then}" for f in describe_source(source, path) if f.state == "warn"]
    assert truth.says in " ".join(warned)
    assert feed(small_frames(source)) == source.frames
    assert truth.frame_rate in (None, source.frame_rate)


def fast(clips, folder: Path) -> Path:
    """A clip whose index comes first: 75 pictures, 3 s of sound."""
    made = folder / "fast.mp4"
    ff("-i", clips["mp4"], "-c", "copy", "-movflags", "+faststart", made)
    return made


def test_a_cut_upload_is_refused_with_numbers_and_its_way_out_works(clips, tmp_path):
    path = fast(clips, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(
        SourceUnusable,
        match=r"\(75 frames promised, (\d+) there; 3\.0\d\d s of sound "
        r"promised, [12]\.\d+ s there\); copy it again, or take .* --accept-truncated",
    ) as refused:
        plan_source(path, tmp_path)
    there = int(re.search(r"(\d+) there", refused.value.message)[1])
    source = plan_guarded(path, tmp_path, ACCEPTING)
    assert source.frames == there
    assert source.shortfall.pictures_promised == 75
    (said,) = [f for f in describe_source(source, path) if f.topic == "completeness"]
    assert said.state == "warn"
    assert f"75 frames promised, {there} there" in said.found
    read = reference_bytes.from_bytes(reference_bytes.to_bytes(source))[0]
    assert read.shortfall == source.shortfall


def test_what_may_be_missing(clips, tmp_path):
    path = fast(clips, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-3])  # of the last packet of sound, which lasts 21 ms
    assert plan_source(path, tmp_path).frames == 75


def test_an_intact_file_is_not_read_again(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("encoder.source.completeness._census", None)
    for suffix in CONTAINERS:
        assert plan_source(clips[suffix], tmp_path).shortfall is None


def test_a_hole_in_the_middle_of_a_matroska_file_is_refused_or_taken(tmp_path: Path):
    """Zeros for a fifth of a file were a picture that stands for two seconds, without a word."""
    path = tmp_path / "hole.mkv"
    ff(
        *("-f", "lavfi", "-i", flashing("160x96", 25, 8, (0.6, 7.6))),
        *("-f", "lavfi", "-i", beeping(8, (0.6, 7.6)), *X264, "-c:a", "aac"),
        *("-cluster_time_limit", 1000, path),
    )
    whole = path.read_bytes()
    assert plan_source(path, tmp_path).shortfall is None
    complete.with_hole(path, 0.4, 0.6)
    with pytest.raises(
        SourceUnusable,
        match=rf"it is not complete \(\d+ of {len(whole)} bytes, in 1 place of its middle, "
        r"are zeros or damaged: [12]\.\d+ s lack pictures or sound, from [23]\.\d+ s on\); .*--acc",
    ):
        plan_source(path, tmp_path)
    source = plan_guarded(path, tmp_path, SourceChoices(accept_truncated=True))
    assert source.shortfall.holes == 1
    assert len(whole) / 5 < source.shortfall.hole_bytes < len(whole) / 2
    assert source.timeline.frames == 200
    (said,) = (one for one in describe_source(source, path) if one.topic == "completeness")
    assert said.state == "warn"
    assert said.found == source.shortfall.numbers


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-live", 1),
        ("-cluster_time_limit", 200),
        ("-reserve_index_space", 4096),
        ("-f", "webm", "-dash", 1),
        ("-cues_to_front", 1),
    ],
)
def test_a_whole_matroska_file_and_a_torn_end_have_no_holes(
    options: tuple[object, ...], tmp_path: Path
):
    path = tmp_path / "whole.mkv"
    pictures = flashing("160x96", 25, 2, ())
    codec = ("-c:v", "libvpx") if "webm" in options else X264
    ff("-f", "lavfi", "-i", pictures, *codec, *options, path)
    data = path.read_bytes()
    for length in (len(data), len(data) - 1, len(data) * 2 // 3, len(data) // 2):
        assert find_holes(io.BytesIO(data[:length])) == ()
        assert find_holes(io.BytesIO(data[:length] + bytes(5000))) == ()
    assert find_holes(io.BytesIO(data + data)) == ()
    begin = len(data) // 3
    holes = find_holes(io.BytesIO(data[:begin] + bytes(500) + data[begin + 500 :]))
    if "-cluster_time_limit" in options:
        assert len(holes) == 1


@pytest.mark.parametrize(
    ("write", "promise"),
    [
        (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x40mdat", Promise(80, inside="mdat")),
        (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08mdat", Promise()),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x88" + bytes(3), Promise(18)),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7, Promise()),
        (b"RIFF\x40\0\0\0AVI " + bytes(20), Promise(72, inside="RIFF")),
        (b"RIFF\0\0\0\0AVI " + bytes(20), Promise()),
        (b"nothing at all", Promise()),
    ],
)
def test_promises(write, promise):
    assert read_promise(io.BytesIO(write)) == promise


# ── what is no video ─────────────────────────────────────────────────────────────────────────────


def way_out(message: str, source: Path, out: Path) -> Path:
    """Run the ffmpeg command that an error names."""
    named = re.search(r"ffmpeg (-.*OUT)(\.\w+)", message)
    assert named is not None, message
    out = out.with_suffix(named[2])
    words = shlex.split(named[1])
    run(Command.of(["-v", "error", "-y", *(_place(word, source, out) for word in words)]))
    return out


def _place(word: str, source: Path, out: Path) -> str:
    return {"IN": str(source), "OUT": str(out)}.get(word, word)


@pytest.mark.parametrize(
    ("file", "arguments", "words", "frames"),
    [
        ("still.avif", "-frames:v 1 -c:v libsvtav1 -f avif", r"single picture \(AVIF\)", 125),
        ("still.gif", "-frames:v 1", r"single picture \(GIF\)", 125),
        ("anim.avif", "-c:v libsvtav1 -f avif", r"animated picture \(AVIS\)", 10),
        ("anim.webp", "-c:v libwebp_anim -loop 0", "an animated WebP picture", 10),
        ("anim.png", "-f apng -plays 0", "an animated PNG picture", 10),
    ],
)
def test_pictures_are_refused_with_a_way_out(tmp_path, file, arguments, words, frames):
    made = tmp_path / file
    pictures = "testsrc2=size=160x96:rate=10:duration=1"
    ff("-f", "lavfi", "-i", pictures, *arguments.split(), made)
    with pytest.raises(SourceUnusable, match=words) as refused:
        plan_source(made, tmp_path)
    source = plan_source(way_out(refused.value.message, made, tmp_path / "out"), tmp_path)
    assert source.frames == frames
    assert (source.width, source.height) == (160, 96)


def test_an_mp4_without_its_index_is_named(clips, tmp_path):
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(clips["mp4"].read_bytes()[:100_000])
    with pytest.raises(SourceUnusable, match=r"without its index \(moov box\).*copy it again"):
        plan_source(torn, tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://example.org/a b.mp4", r"curl -fLo FILE 'https://example.org/a b.mp4'"),
        ("http://example.org/film.mp4", r"it is a URL.*curl -fLo FILE http://example.org/film.mp4"),
        ("rtsp://camera/1", "rtsp://camera/1: it is a URL.*copy it to a file"),
        ("file:///srv/a%20b.mp4", "give /srv/a b.mp4"),
        ("nowhere/film.mp4", "no such file; check the path"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_told_from_a_path(tmp_path, given, words, kind):
    with pytest.raises(SourceUnusable, match=words):
        plan_source(kind(given), tmp_path)
