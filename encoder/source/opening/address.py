"""Say what is wrong with a path that names no file. Pure."""

from __future__ import annotations

import re
import shlex
from urllib.parse import unquote

# A path object has only one slash left of the two behind the scheme.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?P<rest>[^/].*)\Z", re.DOTALL)


def missing(path: str) -> str:
    """Return the path with what is wrong and what to do, for a path where there is no file."""
    found = _ADDRESS.match(path)
    if found is None:
        return f"{path}: no such file; check the path"
    scheme, rest = found["scheme"].lower(), found["rest"]
    if scheme == "file":
        return f"{path}: it is a URL, not a path; give /{unquote(rest)}"
    url = f"{found['scheme']}://{rest}"
    if scheme in ("http", "https", "ftp", "ftps", "sftp"):
        return (
            f"{url}: it is a URL, and sources must be files; download it first, for example with "
            f"curl -fLo FILE {shlex.quote(url)}"
        )
    return f"{url}: it is a URL, and sources must be files; copy it to a file on this machine first"
