"""Single pictures for reports, from a package's segments or from the source."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import av
import av.error
import cv2
import ffmpeg
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from encoder import mp4
from encoder.arrays import UInt8
from encoder.errors import FrameMismatch
from encoder.ffmpeg import SOURCE_OPTIONS, Command, patience, run
from encoder.source.colour.tonemap import CICP, tone_map_small
from encoder.source.reference import ReferenceSource, open_sdr, reading_command

Picture = UInt8
"""BGR pixels of shape (height, width, 3)."""


def segment_picture(init: bytes, media: bytes, frame: int) -> Picture:
    """Decode frame number ``frame``, from 0, of a CMAF segment.

    Raises:
        FrameMismatch: the segment does not decode, or has no such frame.
    """
    try:
        colour = mp4.codec_configuration(init).colour
        with av.open(io.BytesIO(init + media), "r", options=dict(SOURCE_OPTIONS)) as container:
            for number, decoded in enumerate(container.decode(video=0)):
                if number == frame:
                    if colour is not None:
                        # AV1 and VP9 may state it in the container alone.
                        decoded.colorspace = colour.matrix
                    return _bgr(decoded)
    except av.error.FFmpegError as error:
        raise FrameMismatch(f"a segment does not decode ({error}); verify the package") from error
    raise FrameMismatch(f"a segment has no frame {frame}; verify the package")


def _bgr(decoded: av.VideoFrame) -> Picture:
    """Convert a decoded picture, tone-mapped where it has a high dynamic range."""
    for transfer, (_, code, _) in CICP.items():
        if decoded.color_trc == code:
            levels = decoded.reformat(format="yuv444p16le").to_ndarray()
            mapped = tone_map_small(levels, transfer)
            frame = av.VideoFrame.from_ndarray(mapped, format="yuv444p")
            decoded = frame.reformat(
                format="bgr24",
                src_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
            )
    return np.asarray(decoded.to_ndarray(format="bgr24"), dtype=np.uint8)


def read_bgr(source: ReferenceSource, numbers: Sequence[int], command: Command) -> Picture:
    """Return canonical frames (n, height, width, 3), which ``command`` writes as raw BGR to stdout.

    Raises:
        ToolFailed: ffmpeg cannot decode the frames.
        FrameMismatch: ffmpeg returned another number of frames.
    """
    done = run(command, timeout_seconds=patience(numbers[-1] + 1 - numbers[0]))
    shape = (source.height, source.width, 3)
    if len(done.stdout) != len(numbers) * math.prod(shape):
        raise FrameMismatch(
            f"cannot read frames {', '.join(map(str, numbers))} of {source.path}: ffmpeg returned "
            f"{len(done.stdout) / math.prod(shape):g} frames instead of {len(numbers)}"
        )
    return np.frombuffer(done.stdout, np.uint8).reshape(len(numbers), *shape)


def source_picture(source: ReferenceSource, frame: int) -> Picture:
    """Read a canonical frame of the source, with the errors of :func:`read_bgr`."""
    picture_in_rgb = {"in_color_matrix": source.sdr_matrix, "in_range": "limited"}
    node = open_sdr(source, frame, frame + 1).filter("scale", **picture_in_rgb, out_range="full")
    node = node.filter("format", pix_fmts="bgr24")
    output = ffmpeg.output(node, "pipe:1", f="rawvideo", fps_mode="passthrough")
    picture: Picture = read_bgr(source, [frame], reading_command(output))[0]
    return picture


def fitted(picture: Picture, width: int, height: int) -> Picture:
    """Scale a picture to exactly this size."""
    method = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)


def jpeg(picture: Picture, quality: int = 80) -> bytes:
    """Encode a picture as JPEG."""
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(coded)


def sheet(pictures: Sequence[Picture], columns: int) -> Picture:
    """Arrange pictures of one size in rows of ``columns`` on a black sheet."""
    height, width, depth = pictures[0].shape
    rows = -(-len(pictures) // columns)
    whole = np.zeros((rows * height, columns * width, depth), np.uint8)
    for number, picture in enumerate(pictures):
        y, x = divmod(number, columns)
        whole[y * height : (y + 1) * height, x * width : (x + 1) * width] = picture
    return whole
