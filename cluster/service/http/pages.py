"""Pages for people: the operators' page and the player, each one file that loads no other.

A page runs exactly the script and the style that are in its file: its Content-Security-Policy has
their digests, so that nothing that others wrote could run in it, even where a page failed to escape
it. Pages hold no data and need no token; they read from the API, and ask for a token if need be.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import Any, Final

from fastapi.responses import Response

PAGE: Final[dict[str, Any]] = {
    "description": "A page for people.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}
"""A page in the OpenAPI document."""
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@functools.cache
def _page(package: str, name: str) -> tuple[bytes, str]:
    """Return a page and the sources of scripts and styles that it allows."""
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    digests: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        digests[kind].append(f"'sha256-{digest}'")
    allowed = "; ".join(f"{kind}-src {' '.join(sources)}" for kind, sources in digests.items())
    return text.encode(), allowed


def page_response(package: str, name: str, *, policy: str, cache_control: str) -> Response:
    """Return a page of a Python package, with ``policy`` as what it may load beside itself."""
    content, allowed = _page(package, name)
    headers = {
        "Cache-Control": cache_control,
        "Content-Security-Policy": (
            f"default-src 'none'; {allowed}; {policy}; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'self'; require-trusted-types-for 'script'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)
