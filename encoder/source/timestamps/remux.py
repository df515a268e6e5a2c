"""Writing a copy of a source with other times: coded data stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
import av.container

from encoder.errors import StoreUnusable
from encoder.source.probe import is_decodable, opened, video_stream
from encoder.source.timestamps.presentation import Presentation


def remux(source: Path, made: Path, plan: Presentation) -> None:
    """Copy the pictures of ``source`` to ``made`` at their planned times, and its sound along.

    Raises:
        SourceUnusable: the source cannot be read.
        StoreUnusable: the copy cannot be written.
    """
    with opened(source) as container:
        stream = video_stream(container, source)
        sounds = [each for each in container.streams.audio if is_decodable(each)]
        with written(made) as output:
            target = output.add_stream_from_template(stream, opaque=plan.codec == "av1")
            target.time_base = plan.time_base
            copies = {each.index: output.add_stream_from_template(each) for each in sounds}
            number = -1
            for packet in container.demux(stream, *sounds):
                if not packet.size:
                    continue
                if packet.stream_index != stream.index:
                    if packet.pts is None or packet.dts is None:
                        continue
                    shift = round(plan.start_seconds / packet.time_base)
                    packet.pts -= shift
                    packet.dts -= shift
                    packet.stream = copies[packet.stream_index]
                    output.mux(packet)
                    continue
                number += 1
                if number in plan.pts:
                    packet.stream = target
                    packet.time_base = plan.time_base
                    packet.pts = plan.pts[number]
                    packet.dts = plan.dts[number]
                    output.mux(packet)


@contextlib.contextmanager
def written(made: Path) -> Iterator[av.container.OutputContainer]:
    """Open a copy for writing.

    Raises:
        StoreUnusable: it cannot be written.
    """
    try:
        with av.open(str(made), "w") as output:
            yield output
    except OSError as error:
        raise StoreUnusable(
            f"cannot write {made}: {error.strerror}; free disk space or check its permissions"
        ) from error
