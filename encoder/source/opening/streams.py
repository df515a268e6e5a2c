"""The streams of an open source: which of its video is used, and what ffmpeg can decode."""

from __future__ import annotations

from typing import Any

import av
import av.container
import av.stream
import av.video

from encoder.errors import SourceUnusable
from encoder.source.opening.reading import PathLike

_PICTURE_CODECS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")
_LANGUAGE_LENGTH = 35  # the longest tag that RFC 5646 expects


def video_stream(container: av.container.InputContainer, path: PathLike) -> av.video.VideoStream:
    """Return the one video stream that is used: the default one, otherwise the first.

    Attached pictures do not count; a stream in a still picture codec is used only where there is
    no other.

    Raises:
        SourceUnusable: there is no video stream, or no decoder for it.
    """
    for stream in sorted(films(container), key=_preference):
        # PyAV types codec_context as always there; it is None for a codec without a decoder.
        if not has_decoder(stream):
            raise SourceUnusable(
                f"cannot decode {path}: no decoder for the codec of its video stream "
                f"{stream.index}; transcode it to a common codec first"
            )
        return stream
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
    raise SourceUnusable(
        f"cannot use {path}: it has no video stream (it has: {kinds}); name a video file"
    )


def films(container: av.container.InputContainer) -> list[av.video.VideoStream]:
    """Return the video streams that are not attached pictures, such as covers."""
    attached = av.stream.Disposition.attached_pic
    return [each for each in container.streams.video if not each.disposition & attached]


def _preference(stream: av.video.VideoStream) -> tuple[bool, bool, int]:
    """Sort key that puts the title's stream first: a cover may precede it, marked as default."""
    still = has_decoder(stream) and stream.codec_context.codec.canonical_name in _PICTURE_CODECS
    return still, is_not_default(stream), stream.index


def has_decoder(stream: av.stream.Stream) -> bool:
    """Return True where ffmpeg can decode the stream; PyAV has no codec context otherwise."""
    return getattr(stream, "codec_context", None) is not None


def is_decodable(stream: av.stream.Stream) -> bool:
    """Return True where there is a decoder and, for audio, something to decode.

    A transport stream may announce audio that never comes.
    """
    if not has_decoder(stream) or not isinstance(stream, av.AudioStream):
        return has_decoder(stream)
    return stream.codec_context.channels > 0 and stream.codec_context.sample_rate > 0


def is_not_default(stream: av.stream.Stream) -> bool:
    """Return True where the container does not mark a stream as default."""
    return not stream.disposition & av.stream.Disposition.default


def language_of(stream: Any) -> str | None:
    """Return the tag in the file, which may be anything, without what a terminal would obey."""
    printable = "".join(sign for sign in stream.language or "" if sign.isprintable())
    return printable[:_LANGUAGE_LENGTH] or None
