"""Broken and hostile sources by the thousand: ``python -m tests.fuzz [COUNT] [SEED]``.

With ``--kept FILE`` what came of each input is kept there, and a run that was stopped goes on.

Small clips of many containers and codecs are damaged at random (reproducibly, by seed): bits
flipped, cut short anywhere and at every box, bytes taken out, repeated or swapped, sizes and
dimensions that lie. Each goes, in a process of its own with limits of memory, CPU and output,
through what a run does with a source: probe, index, timeline, the analysis pass over every frame;
some have their first frames, their sound and their subtitles encoded as well. It may be used or
refused in one line. Anything else fails: a crash, a traceback, a hang, more memory than allowed, a
file left behind, a process left running.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.stages.title import check_hdr
from encoder.analysis.frames import small_frames
from encoder.encode import encode_shot
from encoder.errors import ShotladderError, SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.names import shown
from encoder.package import audio, subtitles
from encoder.recipes import by_name
from encoder.source.choices import SourceChoices
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.sound.plan import SURROUND_CHANNELS
from fixtures import fields
from fixtures.awkward import HDR, HDR10_X265
from fixtures.kinds import all_kinds

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 30
WALL_SECONDS = 180
OUTPUT_BYTES = 256 << 20
MOST_FRAMES = 2_000
"""Of a damaged clip of 12 frames: one that claims more is only planned, not decoded."""

MOST_KIND_BYTES = 1 << 20
"""Largest input of :mod:`fixtures.kinds` that is damaged."""

USED, REFUSED = "used", "refused"
_USED, _REFUSED, _DEFECT = 0, 10, 20

_PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=12:duration=1")
_SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1")
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "6", "-threads", "1")
_SURROUND = ("-f", "lavfi", "-i", "sine=duration=1,pan=5.1|FL=c0|FR=c0|LFE=c0")
_TEXT = ("-i", "FOLDER/text.srt")
_TEXTS = (*_PICTURE, *_SURROUND, *_TEXT)
SUBTITLES = """1
00:00:00,100 --> 00:00:00,400
<i>One</i>

2
00:00:00,500 --> 00:00:00,900
Two
lines
"""
_TEN_BITS = ("-pix_fmt", "yuv420p10le")
_H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=6")
CLIPS: dict[str, tuple[str, ...]] = {
    "h264.mp4": (*_PICTURE, *_SOUND, *_H264, "-c:a", "aac"),
    "fast.mp4": (*_PICTURE, *_H264, "-movflags", "+faststart"),
    "fragments.mp4": (*_PICTURE, *_H264, "-movflags", "+frag_keyframe+empty_moov"),
    "hevc.mp4": (*_PICTURE, *_H265, "-tag:v", "hvc1"),
    "prores.mov": (*_PICTURE, "-c:v", "prores_ks"),
    "h264.mkv": (*_PICTURE, *_SOUND, *_H264, "-c:a", "flac"),
    "ffv1.mkv": (*_PICTURE, "-c:v", "ffv1", "-g", "4"),
    "vp9.webm": (*_PICTURE, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
    "av1.webm": (*_PICTURE, "-c:v", "libsvtav1", "-preset", "12", "-g", "6"),
    "h264.ts": (*_PICTURE, *_SOUND, *_H264, "-c:a", "mp2"),
    "mpeg2.mpg": (*_PICTURE, "-c:v", "mpeg2video", "-bf", "2", "-g", "6"),
    "mpeg4.avi": (*_PICTURE, "-c:v", "mpeg4", "-bf", "2", "-g", "6"),
    "h264.flv": (*_PICTURE, *_H264),
    "theora.ogv": (*_PICTURE, "-c:v", "libtheora"),
    "raw.y4m": (*_PICTURE, "-pix_fmt", "yuv420p"),
    "raw.264": (*_PICTURE, *_H264),
    "raw.265": (*_PICTURE, *_H265),
    "av1.ivf": (*_PICTURE, "-c:v", "libsvtav1", "-preset", "12", "-g", "6"),
    "still.gif": _PICTURE,
    "texts.mp4": (*_TEXTS, *_H264, "-c:a", "aac", "-c:s", "mov_text"),
    "texts.mkv": (*_TEXTS, *_H264, "-c:a", "ac3", "-c:s", "ass"),
    "hdr10.mp4": (
        *(*_PICTURE, "-vf", f"setparams={HDR.format('smpte2084')}"),
        *(*_TEN_BITS, *HDR10_X265.split(), "-tag:v", "hvc1"),
    ),
    "hlg.mkv": (
        *(*_PICTURE, "-vf", f"setparams={HDR.format('arib-std-b67')}"),
        *(*_TEN_BITS, "-c:v", "ffv1", "-g", "4"),
    ),
}
_LIES = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged input and what came of it."""

    name: str
    outcome: str
    """:data:`USED`, :data:`REFUSED`, or what went wrong."""
    said: str = ""

    @property
    def fine(self) -> bool:
        return self.outcome in (USED, REFUSED)


def make_clips(folder: Path) -> dict[str, bytes]:
    """The sound clips, made once."""
    made = {}
    (folder / "text.srt").write_text(SUBTITLES)
    for name, arguments in CLIPS.items():
        path = folder / name
        placed = [argument.replace("FOLDER", str(folder)) for argument in arguments]
        run(Command.of(["-v", "error", "-y", *placed, path]), timeout_seconds=120)
        made[name] = path.read_bytes()
    raw = fields.make(folder / "fields.264", width=64, height=64, frames=6)
    copied = folder / "fields.ts"
    run(Command.of(["-v", "error", "-f", "h264", "-r", "50", "-i", raw, "-c", "copy", copied]))
    made[copied.name] = copied.read_bytes()
    return made


def make_kinds(folder: Path) -> dict[str, bytes]:
    """One input of every kind that users report (:mod:`fixtures.kinds`), if it is small."""
    made = {}
    for name, kind in all_kinds().items():
        path = folder / kind.file
        kind.make(path, random.Random(0))
        if path.stat().st_size <= MOST_KIND_BYTES:
            made[f"{name.partition('/')[0]}-{shown(kind.file)[-60:]}"] = path.read_bytes()
        path.unlink()
    return made


def truncations_at_boxes(data: bytes) -> Iterator[int]:
    """Where every box of an MP4 begins, inside containers as well."""
    inside = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex")

    def walk(start: int, end: int) -> Iterator[int]:
        while start + 8 <= end:
            size = int.from_bytes(data[start : start + 4], "big")
            if size < 8:
                return
            yield start
            if data[start + 4 : start + 8] in inside:
                yield from walk(start + 8, min(end, start + size))
            start += size

    yield from walk(0, len(data))


def damaged(name: str, data: bytes, clips: dict[str, bytes], chance: random.Random) -> bytes:
    """``data`` with one to three kinds of damage; headers get most of it."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        head = chance.random() < 0.6
        reach = max(1, min(len(changed), 2_048 if head else len(changed)))
        # What is at the end of a file is often its index.
        start = chance.choice((0, max(0, len(changed) - reach))) if head else 0
        at = start + chance.randrange(reach)
        match chance.randrange(10):
            case 0 | 1:
                for _ in range(chance.choice((1, 4, 32))):
                    place = start + chance.randrange(reach)
                    if place < len(changed):
                        changed[place] ^= 1 << chance.randrange(8)
            case 2:
                length = chance.choice((1, 16, 300))
                changed[at : at + length] = chance.randbytes(length)
            case 3:
                del changed[at:]
            case 4:
                del changed[at : at + chance.choice((1, 4, 50, 1_000))]
            case 5:
                piece = changed[at : at + chance.choice((8, 100, 2_000))]
                changed[at:at] = piece * chance.choice((1, 2, 50))
            case 6 | 7:
                lie = chance.choice(_LIES)
                wide = chance.choice((">I", "<I", ">H", "<H", ">Q"))
                most = 2 ** (8 * struct.calcsize(wide)) - 1
                changed[at : at + struct.calcsize(wide)] = struct.pack(wide, min(lie, most))
            case 8:
                # Dimensions, wherever they are written.
                for size in (struct.pack(">H", 64), struct.pack("<H", 64), struct.pack(">H", 48)):
                    found = changed.find(size)
                    if found >= 0 and chance.random() < 0.7:
                        big = chance.choice((1, 2, 17, 4_097, 16_384, 65_535))
                        changed[found : found + 2] = struct.pack(size[:1] and ">H", big)
            case _:
                other = clips[chance.choice(sorted(clips))]
                changed[at : at + 500] = other[:500]
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def cases(count: int, seed: int, clips: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Damaged files with their names: every truncation at a box first, then at random."""
    boxes = ("h264.mp4", "fast.mp4", "fragments.mp4")
    cut = [(f"{at}-{n}", clips[n][:at]) for n in boxes for at in truncations_at_boxes(clips[n])]
    kept = cut if len(cut) < count // 4 else random.Random(seed).sample(cut, count // 4)
    yield from kept
    names = sorted(clips)
    for number in range(count - len(kept)):
        chance = random.Random(f"{seed}/{number}")
        name = names[number % len(names)]
        yield f"{number}-{name}", damaged(name, clips[name], clips, chance)


def use(path: Path, workdir: Path, *, encode: bool) -> None:
    """What a run does with a source, but for the scores."""
    try:
        source = plan_source(path, workdir)
    except SourceUnusable as error:
        if "--accept-truncated" not in error.message:
            raise
        # The remedy has to work: what is there is used, or refused for another reason.
        source = plan_source(path, workdir, SourceChoices(accept_truncated=True))
    check_hdr(path, source)
    if source.frames > MOST_FRAMES:
        return
    for _ in small_frames(source, threads=1):
        pass
    if encode:
        shot = Shot(0, min(source.frames, 12))
        recipe = by_name("x265-ultrafast" if source.hdr else "x264-ultrafast")
        point = OperatingPoint(recipe, source.width, source.height, 40)
        encode_shot(source, shot, [point], workdir)
        _hear_and_read(source, workdir)


def _hear_and_read(source: ReferenceSource, workdir: Path) -> None:
    """The first stream of sound and of text, as a package has them."""
    path = Path(source.path)
    start, duration = source.start_seconds, source.timeline.duration_seconds
    for stream in source.info.audio[:1]:
        made = audio.encode_audio(
            path,
            stream.index,
            workdir / "sound.mp4",
            first_video_pts=start,
            duration=duration,
            channels=stream.channels,
            surround=stream.channels >= SURROUND_CHANNELS,
        )
        if made is not None:
            audio.segment_audio(made.read_bytes(), [duration], stream.language)
    for text in [stream for stream in source.info.subtitles if stream.text][:1]:
        found = subtitles.cues(subtitles.extract(path, text.index)[0], start, duration)
        subtitles.subtitle_track(found, [duration])


def limited(path: Path, workdir: Path, *, encode: bool) -> tuple[str, str]:
    """Use a file in a process of its own, under limits; the outcome and what was said."""
    log = workdir / "said"
    pid = os.fork()
    if pid == 0:
        status = _DEFECT
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
            resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
            for name in ("temporary", "here"):
                (workdir.parent / name).mkdir()
            tempfile.tempdir = os.environ["TMPDIR"] = str(workdir.parent / "temporary")
            os.chdir(workdir.parent / "here")
            sink = os.open(log.with_suffix(".stderr"), os.O_WRONLY | os.O_CREAT)
            os.dup2(sink, 2)
            try:
                use(path, workdir, encode=encode)
                status = _USED
            except ShotladderError as error:
                log.write_text(f"{type(error).__name__}: {error.message}", errors="replace")
                status = _REFUSED if "\n" not in error.message else _DEFECT
            except BaseException:
                log.write_text(traceback.format_exc(), errors="replace")
        finally:
            os._exit(status)
    deadline = time.monotonic() + WALL_SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang", ""
        time.sleep(0.003)
    said = log.read_text() if log.exists() else ""
    left = _group_is_alive(pid)
    code = os.waitstatus_to_exitcode(status)
    if left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return "left a process running", said
    if code in (_USED, _REFUSED):
        return (USED if code == _USED else REFUSED), said
    return (f"signal {-code}" if code < 0 else "traceback"), said


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def fuzz(
    count: int,
    seed: int,
    *,
    encode_every: int = 5,
    keep: Path | None = None,
    kept: Path | None = None,
    kinds: bool = False,
) -> list[Case]:
    """Damage and use ``count`` files; every ``encode_every``-th is encoded as well.

    With ``kinds``, inputs of the kinds that users report are damaged too.

    Those that fail are kept in the folder ``keep``; what came of all is appended to the file
    ``kept``, and those that it has already are not used again.
    """
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    found = [Case(**json.loads(line)) for line in lines]
    before = len(found)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        clips = make_clips(folder / "clips")
        if kinds:
            clips |= make_kinds(folder / "clips")
        for number, (title, data) in enumerate(cases(count, seed, clips)):
            if number < before:
                if found[number].name != title:
                    raise SystemExit(f"{kept} is of another run: name another file")
                continue
            inbox, workdir = folder / "inbox", folder / "work"
            strewn = [folder / "temporary", folder / "here"]
            for each in (inbox, workdir, *strewn):
                shutil.rmtree(each, ignore_errors=True)
            inbox.mkdir()
            workdir.mkdir()
            path = inbox / title
            path.write_bytes(data)
            outcome, said = limited(path, workdir, encode=number % encode_every == 0)
            if [p.name for p in inbox.iterdir()] != [title]:
                outcome = "left files beside the source"
            if any(found for place in strewn for found in place.iterdir()):
                outcome = "left files behind"
            case = Case(title, outcome, said)
            found.append(case)
            if not case.fine and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / title).write_bytes(data)
            if kept is not None:
                with kept.open("a") as file:
                    file.write(json.dumps(asdict(case)) + "\n")
            if number % 200 == 199:
                counts = Counter(case.outcome for case in found)
                print(f"{number + 1}: {dict(counts)}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2_000)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--kept", type=Path, help="where outcomes are kept, to go on from")
    parser.add_argument("--encode-every", type=int, default=5, help="encode every N-th as well")
    parser.add_argument("--no-kinds", action="store_true", help="damage the sound clips alone")
    asked = parser.parse_args()
    started = time.monotonic()
    found = fuzz(
        asked.count,
        asked.seed,
        encode_every=asked.encode_every,
        keep=Path("out/fuzz"),
        kept=asked.kept,
        kinds=not asked.no_kinds,
    )
    print(f"{len(found)} damaged sources, seed {asked.seed}, {time.monotonic() - started:.0f} s")
    for outcome, number in Counter(case.outcome for case in found).most_common():
        print(f"{number:6d} {outcome}")
    refusals = Counter(case.said.partition(":")[0] for case in found if case.outcome == REFUSED)
    for name, number in refusals.most_common():
        print(f"{number:6d} of the refusals are {name}")
    bad = [case for case in found if not case.fine]
    for case in bad:
        last = case.said.strip().splitlines()[-1:] or [""]
        print(f"out/fuzz/{case.name}: {case.outcome} {last[0]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
