"""State a title's colours in the init segments of its rungs.

Encodes are as they were measured: where a source leaves colours unstated, so do they. H.264 and
HEVC state colours in parameter sets, which are only in the init segment; ffmpeg's bitstream filters
rewrite them. Every codec has the box ``colr`` besides. AV1 and VP9 repeat their headers in the
media, which stay byte for byte as they were measured, so their encoders are told
(:func:`encoder.encode.stated_in_stream`): Firefox takes AV1's colours from the stream alone.
"""

from __future__ import annotations

from encoder import mp4
from encoder.ffmpeg import Command, run

_FILTERS = {"avc1": "h264_metadata", "hvc1": "hevc_metadata"}
_TIMEOUT_SECONDS = 60.0


def stating(init: bytes, media: bytes, colour: mp4.Colour) -> bytes:
    """Return ``init`` stating ``colour``, in the box ``colr`` and in parameter sets.

    What states this colour already is returned as it is. ``media`` is a segment that ``init``
    belongs to.

    Raises:
        ToolFailed: ffmpeg cannot rewrite the parameter sets.
    """
    configuration = mp4.codec_configuration(init)
    if configuration.colour == colour:
        return init
    name = _FILTERS.get(configuration.fourcc)
    if name is None:
        return mp4.with_colour(init, colour)
    done = run(command(name, colour), timeout_seconds=_TIMEOUT_SECONDS, stdin=[init, media])
    rewritten, _ = mp4.split_fragmented(done.stdout)
    return mp4.with_colour(init, colour, mp4.codec_configuration(rewritten).config)


def command(name: str, colour: mp4.Colour) -> Command:
    """Build the ffmpeg call that copies a fragmented MP4 with colours in its parameter sets."""
    codes = (
        f"colour_primaries={colour.primaries}:transfer_characteristics={colour.transfer}:"
        f"matrix_coefficients={colour.matrix}:video_full_range_flag={int(colour.full)}"
    )
    flags = "+frag_keyframe+empty_moov+default_base_moof"
    return Command.of(
        [
            *("-v", "error", "-f", "mov", "-i", "pipe:0", "-map", "0:v:0", "-c", "copy"),
            *("-copyts", "-bsf:v", f"{name}={codes}", "-frames:v", 1, "-fflags", "+bitexact"),
            *("-movflags", flags, "-f", "mp4", "pipe:1"),
        ]
    )
