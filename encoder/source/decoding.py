"""Options with which the ffmpeg program decodes a source, beside those for opening it."""

from __future__ import annotations

from encoder.source.probing.source_info import SourceInfo

# NAL units of SEI in H.264 and HEVC, user data in MPEG-2.
_BITSTREAM_METADATA = {"h264": "6", "hevc": "39-40", "mpeg2video": "178"}


def decoding_options(info: SourceInfo) -> dict[str, str]:
    """Return options of an input: pictures come whole, not turned, and through one filter graph.

    ffmpeg would build the graph anew, and lose a picture, where a picture has an orientation that
    the one before had not: SEI often repeats it with some pictures only. It fails where container
    and bitstream state the same (an orientation, a 3D packing); then the container's is taken.
    """
    options = {"reinit_filter": "0"}
    if info.crop is not None:
        options["apply_cropping"] = "codec"
    if info.stated_twice and info.codec in _BITSTREAM_METADATA:
        options["bsf:v"] = f"filter_units=remove_types={_BITSTREAM_METADATA[info.codec]}"
    return options
