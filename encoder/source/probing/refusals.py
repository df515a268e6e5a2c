"""Refuse sources that no ladder can be made of, by the shape, colours and coding of a picture."""

from __future__ import annotations

import av
import av.video

from encoder.errors import SourceUnusable
from encoder.source.colour.codes import (
    UNSUPPORTED_MATRICES,
    UNSUPPORTED_TRANSFERS,
    color_primaries,
)
from encoder.source.colour.dolby_vision import DolbyVision
from encoder.source.containers.cropping import Crop
from encoder.source.opening.reading import PathLike

MIN_SIDE = 16
"""Shortest side of a picture, pixels."""
MAX_RATIO = 16
"""Largest ratio of the long side of a picture to its short side."""


def check_shape(path: PathLike, frame: av.VideoFrame, crop: Crop | None) -> None:
    """Check that the shown part of a picture is large enough, and not too long, for a ladder.

    Raises:
        SourceUnusable: it is not.
    """
    width, height = frame.width, frame.height
    if crop is not None:
        width, height = width - crop.left - crop.right, height - crop.top - crop.bottom
    short, long = sorted((width, height))
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise SourceUnusable(
            f"cannot use {path}: pictures of {width}x{height} are too "
            f"{'small' if short < MIN_SIDE else 'long'} for a ladder; give pictures of at least "
            f"{MIN_SIDE} pixels a side, one side at most {MAX_RATIO} times the other"
        )


def check_colours(path: PathLike, frame: av.VideoFrame) -> None:
    """Check that the matrix and the transfer of a picture are supported.

    Raises:
        SourceUnusable: one of them is not.
    """
    unsupported = []
    if matrix := UNSUPPORTED_MATRICES.get(int(frame.colorspace)):
        wide = color_primaries(frame) == "bt2020"
        unsupported.append(("matrix", matrix, "bt2020nc" if wide else "bt709"))
    if transfer := UNSUPPORTED_TRANSFERS.get(int(frame.color_trc)):
        unsupported.append(("transfer", transfer, "bt709"))
    if unsupported:
        stated = " and ".join(f"{name} {value}" for name, value, _ in unsupported)
        wanted = ":".join(f"{name}={value}" for name, _, value in unsupported)
        raise SourceUnusable(
            f"cannot use {path}: its colours are coded with {stated}, which is not supported; "
            f"convert it first, for example with ffmpeg -i IN -vf zscale={wanted} -c:v ffv1 OUT.mkv"
        )


def check_coding(
    path: PathLike,
    stream: av.video.VideoStream,
    frame: av.VideoFrame,
    dolby_vision: DolbyVision | None,
) -> None:
    """Check that the coded pictures of a stream can be read frame by frame, and be shown alone.

    Raises:
        SourceUnusable: they are Dolby Vision without a viewable base layer, JPEG 2000, or single
            fields of HEVC.
    """
    codec = stream.codec_context.codec.canonical_name
    if dolby_vision is not None and not dolby_vision.viewable:
        raise SourceUnusable(
            f"cannot use {path}: it is Dolby Vision profile {dolby_vision.profile}, whose base "
            "layer is not viewable without its enhancement; give a standard dynamic range master"
        )
    if codec == "jpeg2000":
        raise SourceUnusable(
            f"cannot use {path}: its video is JPEG 2000, which cannot be read frame by frame "
            "exactly; transcode it first, for example with "
            "ffmpeg -i IN -c:v prores_ks -profile:v 3 -c:a copy OUT.mov"
        )
    if codec == "hevc" and frame.interlaced_frame:
        raise SourceUnusable(
            f"cannot use {path}: each of its HEVC pictures is a single field, and fields are not "
            "woven into frames; weave them first, for example with ffmpeg -i IN -vf "
            "weave=first_field=top -c:v ffv1 -c:a copy OUT.mkv"
        )
