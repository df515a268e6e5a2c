r"""File names as text. On Linux a name is bytes, and not every name is UTF-8.

Python keeps a byte that is not UTF-8 as a lone surrogate, which JSON readers, databases, terminals
and ``ffmpeg-python`` refuse. Inside the process a path stays as Python made it; documents and
messages get :func:`shown`, in which such a byte reads ``\xff``.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_SURROGATES = re.compile("[\ud800-\udfff]")


def shown(text: str | os.PathLike[str]) -> str:
    r"""Return a path, or a message that contains one, as text that can be written as UTF-8.

    In text that has bytes that are not UTF-8, each of them becomes ``\xNN`` and each backslash
    ``\x5c``; all other text is returned as it is.
    """
    text = os.fspath(text)
    if not _SURROGATES.search(text):
        return text
    return _SURROGATES.sub(_code, text.replace("\\", r"\x5c"))


def _code(match: re.Match[str]) -> str:
    # Surrogates up to U+DCFF are bytes (PEP 383); others come from escapes in somebody's JSON.
    number = ord(match[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def path_of(text: str) -> Path:
    """Return the path that :func:`shown` wrote, and any other path as it is."""
    path = Path(text)
    if os.path.lexists(path):
        return path
    escaped = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), os.fsencode(text))
    other = Path(os.fsdecode(escaped))
    return other if os.path.lexists(other) else path


def shown_in_json(text: str) -> str:
    """Return the text of a JSON document with :func:`shown`'s escapes in its strings."""
    return _SURROGATES.sub(lambda match: "\\" + _code(match), text)


def shell_quoted(argument: str) -> str:
    """Return an argument as a shell takes it; bash takes bytes that are not UTF-8 as ``$'...'``."""
    if not _SURROGATES.search(argument):
        return shlex.quote(argument)
    quoted = argument.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_SURROGATES.sub(_code, quoted)}'"
