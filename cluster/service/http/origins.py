"""Cross-origin reads (CORS): pages of which other origins may read what the service answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp
from typing_extensions import override

from cluster.service.documents import EPOCH_HEADER
from cluster.service.http.problems import response
from encoder.errors import BadInput

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")
_METHODS = ("GET", "HEAD", "POST")
_REQUEST_HEADERS = (
    "Authorization", "Content-Type", "If-None-Match", "If-Range", "Last-Event-ID", "Range",
    EPOCH_HEADER,
)  # fmt: skip
_EXPOSED = (
    "Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "ETag", "Retry-After",
    EPOCH_HEADER,
)  # fmt: skip
_PREFLIGHT_SECONDS = 7200
"""Time for which a browser need not ask again; Chromium keeps no answer for longer."""


class CrossOriginMiddleware(CORSMiddleware):
    """Lets pages of other origins read, and answers what browsers ask before they do.

    Tokens travel in a header that scripts have to set, so nothing is sent in a visitor's name.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_EXPOSED,
            max_age=_PREFLIGHT_SECONDS,
        )

    @override
    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.startswith("access-control-") or name == "vary"
        }
        if not self.is_allowed_origin(request_headers["origin"]):
            detail = (
                f"pages of {request_headers['origin'][:200]} may not read this service; "
                "ask its owner to add the origin with --cors-origin"
            )
        else:
            detail = (
                "this request may not be sent from another origin; send GET, HEAD or POST with "
                f"no other headers than {', '.join(_REQUEST_HEADERS)}"
            )
        return response(400, detail, "cors_refused", kept)


def check_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """Return origins as browsers send them.

    Raises:
        BadInput: one of them is not an origin.
    """
    checked = tuple(origin.lower().rstrip("/") for origin in origins)
    for given, origin in zip(origins, checked, strict=True):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise BadInput(
                f"--cors-origin {given} is not an origin; give it as https://play.example.com, "
                "without a path, or * for all"
            )
    return checked
