"""Open the container of a source with the protocol and format allow-lists.

The lists are :data:`encoder.ffmpeg.SOURCE_OPTIONS`. Whatever libav or the operating system reports
while a source is open becomes an error that names the file and the remedy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream

from encoder.errors import SourceUnusable
from encoder.ffmpeg import PATIENT_OPTIONS, SOURCE_OPTIONS
from encoder.source.opening.reading import PathLike, SourceFile, file_of, read_failed, reading
from encoder.source.opening.unreadable import why_not_opened

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
"""Name of the demuxer of MP4 and MOV."""

_AS_STORED = {"fflags": "+nofillin"}
_UNEDITED = {"ignore_editlist": "1"}


@contextlib.contextmanager
def opened(
    path: PathLike, *, patient: bool = False, as_stored: bool = False, unedited: bool = False
) -> Iterator[av.container.InputContainer]:
    """Open a source for reading under the allow-lists.

    Args:
        path: the file.
        patient: True to find streams that begin late.
        as_stored: True to get only the times that the file states, none that libavformat derives.
        unedited: True to get all media of MP4 and MOV at its own times, without the edit lists.

    Raises:
        SourceUnusable: the path is missing, not a file, unreadable or of an unsupported kind; also
            for any libav error inside the ``with`` block.
        ReadFailed: the disk or the network failed while the source was read, also where libav
            went on after it.
    """
    given = Path(path)
    source = file_of(given)
    with reading(given), contextlib.closing(source):
        try:
            more = PATIENT_OPTIONS if patient else {}
            more = more | (_AS_STORED if as_stored else {}) | (_UNEDITED if unedited else {})
            with _container(source, given, more) as container:
                yield container
        except (OSError, av.error.FFmpegError) as error:
            if source.failure is not None:
                raise read_failed(given, source.failure) from error
            if not isinstance(error, av.error.FFmpegError):
                raise
            raise SourceUnusable(
                f"cannot read {given}: the data is damaged ({error.strerror}); copy it again, or "
                "remux what can be read, for example with ffmpeg -i IN -map 0 -c copy OUT.mkv"
            ) from error
        if source.failure is not None:
            raise read_failed(given, source.failure)


def _container(
    source: SourceFile, given: Path, more: Mapping[str, str]
) -> av.container.InputContainer:
    try:
        return av.open(
            source,
            mode="r",
            options={**SOURCE_OPTIONS, **more},
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        if source.failure is not None:
            raise
        raise why_not_opened(given, error) from error


def packets_of(
    container: av.container.InputContainer, *streams: av.stream.Stream
) -> Iterator[av.Packet[Any]]:
    """Yield the packets of a file, of all streams or of some, across holes in transport streams.

    Where a transport stream has no packet for 64 kB, its demuxer asks to be called again.
    """
    while True:
        try:
            yield from container.demux(*streams)
        except av.error.BlockingIOError:
            continue
        return
