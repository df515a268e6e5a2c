"""Stills as AVIF, coded when somebody first asks for them, from the JPEG of the same name.

At quality 60 a file has about half the bytes of the JPEG. Coding takes a tenth of a second a
picture, which is why packages do not have these files. They lie beside the JPEG and go with it.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Final

from cluster.store.files import atomic_write

SUFFIX: Final = ".avif"
_QUALITY, _SPEED = 60, 8
_coding = threading.BoundedSemaphore(2)
"""Pictures that are coded at once, so that a page of them leaves other readers their share."""


def ensure_avif(path: Path) -> bool:
    """Make the AVIF file ``path`` if the JPEG of its name is there; tell whether the file is there.

    The same JPEG gives the same bytes.

    Raises:
        OSError: the JPEG cannot be read, or the file cannot be written.
    """
    if path.is_file():
        return True
    jpeg = path.with_suffix(".jpg")
    if not jpeg.is_file():
        return False
    with _coding:
        if not path.is_file():
            atomic_write(path, avif(jpeg.read_bytes()), durable=False)
    return True


def avif(jpeg: bytes) -> bytes:
    """Code a JPEG as AVIF.

    Raises:
        OSError: the bytes are no picture.
    """
    from PIL import Image  # which takes long to load, and many services are never asked

    file = io.BytesIO()
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        # With one thread, since several split the picture into other tiles.
        picture.save(file, "AVIF", quality=_QUALITY, speed=_SPEED, max_threads=1)
    return file.getvalue()
