"""Tiny encodes for the package tests: `testsrc2` shots by the options that the product uses."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoder import framehash, mp4
from encoder.ffmpeg import Command, as_arguments, run
from encoder.package.layout import Rendition, TitlePackage, VideoSegment
from encoder.package.verify import ExpectedSegment

RATE = 48_000
"""Of sound, Hz."""
CODECS: dict[str, tuple[str | int, ...]] = {
    # Reordering, which ultrafast has not, is what makes times hard.
    "libx264": ("-preset", "ultrafast", "-bf", 3, "-b_strategy", 0),
    "libx265": ("-preset", "ultrafast", "-bf", 3, "-tag:v", "hvc1"),
    "libsvtav1": ("-preset", 12, "-g", 9999),
    "libvpx-vp9": ("-deadline", "realtime", "-cpu-used", 8, "-b:v", 0, "-g", 9999),
}
PARAMETERS = {
    "libx264": ("-x264-params", "keyint=infinite:scenecut=0:open-gop=0:stitchable={stitchable}"),
    "libx265": ("-x265-params", "keyint=-1:scenecut=0:open-gop=0:info=0:log-level=error"),
    "libsvtav1": ("-svtav1-params", "scd=0"),
}
MOVFLAGS = "+frag_keyframe+empty_moov+default_base_moof+frag_discont+negative_cts_offsets"


@functools.cache
def encode(
    start: int,
    end: int,
    crf: float,
    *,
    frame_rate: Fraction = Fraction(24),
    height: int = 90,
    cut: int | None = None,
    stitchable: int = 1,
    codec: str = "libx264",
) -> tuple[bytes, bytes, tuple[str, ...]]:
    """``(init, media, frame hashes)`` of frames [start, end) of a moving test picture."""
    graph = (
        f"trim=start_frame={start}:end_frame={end},setpts=PTS-STARTPTS,"
        f"scale={height * 16 // 9}:{height},setsar=1"
    )
    parameters = [part.format(stitchable=stitchable) for part in PARAMETERS.get(codec, ())]
    keyframes = ["-force_key_frames", f"expr:eq(n,{cut - start})"] if cut is not None else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encode.mp4"
        run(
            Command.of(
                [
                    *("-v", "error", "-f", "lavfi"),
                    *("-i", f"testsrc2=size=320x180:rate={frame_rate}", "-vf", graph),
                    *("-an", "-c:v", codec, *CODECS[codec], "-threads", 1),
                    *("-crf", crf, "-pix_fmt", "yuv420p", *parameters, *keyframes),
                    *("-output_ts_offset", f"{float(start / frame_rate):.6f}"),
                    *("-use_editlist", 0, "-movflags", MOVFLAGS, "-fflags", "+bitexact"),
                    *("-video_track_timescale", mp4.timescale_for(frame_rate), "-f", "mp4", path),
                ]
            )
        )
        init, media = mp4.split_fragmented(path.read_bytes())
        return init, media, decode(path)


def decode(path: Path, *options: str) -> tuple[str, ...]:
    """Frame hashes of whatever ffmpeg opens; ``options`` select the stream."""
    hashing = as_arguments(framehash.hash_output_options())
    command = Command.of(["-v", "error", "-i", path, *options, *hashing, "pipe:1"])
    return framehash.parse(run(command).stdout)


def segment(
    start: int, end: int, crf: float, **options: object
) -> tuple[bytes, VideoSegment, ExpectedSegment]:
    init, media, hashes = encode(start, end, crf, **options)  # type: ignore[arg-type]
    made = VideoSegment(
        start_frame=start,
        end_frame=end,
        media=media,
        size=len(media),
        sha256=hashlib.sha256(media).hexdigest(),
        configuration=mp4.codec_configuration(init).sha256,
    )
    return init, made, ExpectedSegment(start, end, hashes)


def title(
    shots: tuple[tuple[int, int], ...],
    crfs: dict[int, tuple[float, ...]],
    *,
    frame_rate: Fraction = Fraction(24),
    cut: int | None = None,
    codec: str = "libx264",
) -> tuple[TitlePackage, dict[str, list[ExpectedSegment]]]:
    """A package with one rung per height in ``crfs``, each shot by its own CRF."""
    renditions, expected = [], {}
    for height, rung_crfs in crfs.items():
        made = [
            segment(
                start,
                end,
                crf,
                frame_rate=frame_rate,
                height=height,
                codec=codec,
                cut=cut if cut is not None and start < cut < end else None,
            )
            for (start, end), crf in zip(shots, rung_crfs, strict=True)
        ]
        name = f"v{height}"
        renditions.append(Rendition(name, made[-1][0], tuple(one for _, one, _ in made)))
        expected[name] = [known for _, _, known in made]
    return TitlePackage(frame_rate, shots, tuple(renditions)), expected


def samples(path: Path, *options: object) -> npt.NDArray[np.float32]:
    """Left channel as a player plays it, shape (samples,)."""
    command = Command.of(
        ["-v", "error", "-i", path, *options, "-ar", RATE, "-f", "f32le", "pipe:1"]
    )
    return np.frombuffer(run(command).stdout, dtype="<f4").reshape(-1, 2)[:, 0]


def onset(sound: npt.NDArray[np.float32]) -> float:
    """Seconds at which the beep begins: a quarter of its loudest."""
    loud = np.abs(sound)
    return float(np.argmax(loud > loud.max() / 4)) / RATE
