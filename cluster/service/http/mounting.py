"""The path below which the service is mounted, for a proxy that gives it a part of its own paths.

Clients ask for ``/ladders/v1/titles``. A proxy may pass that path on, or take ``/ladders`` off:
both are answered. URLs in answers begin with the mount when they are read; none is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.service.http.reading import failure, send_reply
from encoder.errors import BadInput

_MOUNT = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){0,8}")
_KEY = "shotladder.mount"
_OWN = "v1"
"""First part of the service's own paths."""


def parse_mount(path: str) -> str:
    """Return a mount without the slash at its end; empty for none.

    Raises:
        BadInput: it is not a plain absolute path.
    """
    mount = path.rstrip("/")
    if len(mount) > 200 or not _MOUNT.fullmatch(mount):
        raise BadInput(
            f"--root-path {path} is not a plain path; give it as /ladders, with letters, digits, "
            "and . _ ~ - only"
        )
    if mount.split("/")[1:2] == [_OWN]:
        raise BadInput(
            f"--root-path {path} begins as the service's own paths do, so that nobody could tell "
            "whether a proxy has taken it off; mount the service below another path, as /ladders"
        )
    return mount


def mount_of(scope: Scope) -> str:
    """Return the path below which the client of a request asks, without a slash at its end."""
    mount: str = scope.get(_KEY, "")
    return mount


class MountMiddleware:
    """Takes the mount off the paths of requests, and notes it for :func:`mount_of`."""

    def __init__(
        self, app: ASGIApp, mount: str, is_proxy: Callable[[str], bool] = lambda host: False
    ) -> None:
        """Take the mount of all requests; a proxy may name another in ``X-Forwarded-Prefix``."""
        self._app = app
        self._mount = mount
        self._is_proxy = is_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            mount = self._mount_named(scope)
        except BadInput:
            detail = "X-Forwarded-Prefix is not a plain path; have the proxy send it as /ladders"
            await send_reply(send, failure("refused", 400, detail))
            return
        if mount:
            path = scope["path"]
            if path == mount or path.startswith(f"{mount}/"):
                path = path[len(mount) :] or "/"
            scope = {**scope, "path": path, _KEY: mount}
        await self._app(scope, receive, send)

    def _mount_named(self, scope: Scope) -> str:
        if scope["client"] is not None and self._is_proxy(scope["client"][0]):
            for name, value in scope["headers"]:
                if name == b"x-forwarded-prefix":
                    return parse_mount(value.decode("latin-1").strip())
        return self._mount
