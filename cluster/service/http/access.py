"""The access log: one JSON object per request, without tokens and signatures.

Requests never wait for it: lines are kept in memory and written by a thread. Where they cannot be
written as fast as they come, some are left out, and the next line says how many.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qsl, quote

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.service.http.auth import Tokens
from cluster.service.redaction import CUT, for_logs
from encoder.errors import BadInput

STDOUT: Final = "-"
FLUSH_SECONDS = 0.25
MAX_WAITING = 20_000
"""Limit of lines that wait to be written."""
_SHOWN = frozenset({"aspect", "cursor", "diverse", "epoch", "external_id", "faces", "hold", "job",
                    "k", "kbps", "limit", "min_width", "seconds", "since", "spoilers", "state",
                    "title", "version"})  # fmt: skip
"""Parameters of the API; what others hold is not for a log."""
_MAX_CHARACTERS = 500
log = structlog.stdlib.get_logger(__name__)


class AccessLog:
    """Writes entries to a file, or to stdout, from :meth:`start` to :meth:`stop`.

    A file that was moved away (logrotate) is opened anew.
    """

    def __init__(self, place: str) -> None:
        """Open the log at a path, or on stdout for ``-``.

        Raises:
            BadInput: the file cannot be opened.
        """
        self._path = None if place == STDOUT else Path(place)
        try:
            self._file = self._open()
        except OSError as error:
            raise BadInput(
                f"--access-log {place} cannot be written ({error.strerror}); give a file in a "
                "folder that exists, or - for stdout"
            ) from error
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._left_out = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        self._thread.join()
        if self._path is not None:
            self._file.close()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take an entry, to be written soon."""
        if len(self._waiting) >= MAX_WAITING:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._waiting.append({**entry, "left_out_before": left_out} if left_out else entry)

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not entries:
            return
        try:
            self._reopen_if_moved()
            # One write of whole lines: other processes add to the same file.
            self._file.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())
            self._file.flush()
        except (OSError, ValueError) as error:
            self._left_out += len(entries)
            log.error("the access log cannot be written", lines=len(entries), detail=str(error))

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        try:
            present = self._path.stat()
            if (present.st_dev, present.st_ino) == _identity(self._file):
                return
        except FileNotFoundError:
            pass
        opened = self._open()
        self._file.close()
        self._file = opened

    def _open(self) -> BinaryIO:
        return sys.stdout.buffer if self._path is None else self._path.open("ab", buffering=0)


class AccessMiddleware:
    """Notes every request that reaches the application."""

    def __init__(self, app: ASGIApp, access: AccessLog, tokens: Tokens) -> None:
        self._app = app
        self._access = access
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, began_at = time.perf_counter(), time.time()
        status, sent = 0, 0

        async def noting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            milliseconds = round(1000 * (time.perf_counter() - began), 2)
            self._access.add(
                {
                    "at": datetime.fromtimestamp(began_at, UTC).isoformat(timespec="milliseconds"),
                    **self._request(scope),
                    "status": status or None,
                    "bytes": sent,
                    "ms": milliseconds,
                }
            )

    def _request(self, scope: Scope) -> dict[str, Any]:
        headers = dict(scope["headers"])
        client = self._tokens.client(headers.get(b"authorization"))
        return {
            "peer": scope["client"][0] if scope["client"] else None,
            "client": None if client is None else client.name,
            "method": scope["method"],
            "path": _shown(scope["path"]),
            "query": _shown_query(scope["query_string"]),
            "host": _shown(headers.get(b"host", b"").decode("latin-1")),
            "agent": _shown(headers.get(b"user-agent", b"").decode("latin-1")),
        }


def _shown(text: str) -> str:
    return str(for_logs(text))[:_MAX_CHARACTERS]  # a part of a secret is one too


def _shown_query(query: bytes) -> str:
    """Return a query with the values of parameters that the service has."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
    parts = (
        f"{quote(name, safe='')}={quote(value, safe=':') if name in _SHOWN else CUT}"
        for name, value in pairs
    )
    return _shown("&".join(parts))


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
