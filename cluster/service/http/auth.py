"""Authentication by bearer tokens, which are compared in constant time, and what tokens allow."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import structlog

from encoder.errors import BadInput

log = structlog.stdlib.get_logger(__name__)

Scope = Literal["submit", "withdraw", "read", "decide", "report", "fill", "edit"]
"""``submit`` submits, cancels and retries jobs, and rolls titles back; ``withdraw`` takes titles
down and reads the audit log; ``read`` reads. ``decide`` and ``report`` are for services that ask
which artwork is shown, and that report what became of it; ``fill`` plans what sites hold;
``edit`` bans and pins pictures."""
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
ANYBODY = "anybody"
"""Name of every client without a token, where reads need none."""
_MIN_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request, and what that client may do."""

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Return whether the client may do what needs ``scope``."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True)
class Token:
    """Digest of a token, and the client that has the token."""

    client: Client
    digest: bytes


class Tokens:
    """The tokens of a service."""

    def __init__(self, tokens: Sequence[Token], *, reads_need_token: bool = False) -> None:
        self.reads_need_token: Final = reads_need_token
        self._tokens = tuple(tokens)
        self.anybody: Final = Client(ANYBODY, frozenset())
        """The client without a token, where reads need none."""

    def client(self, authorization: bytes | None) -> Client | None:
        """Return the client with this ``Authorization`` header; None if its token is unknown, or
        missing where reads need one."""
        if authorization is None:
            return None if self.reads_need_token else self.anybody
        scheme, _, text = authorization.partition(b" ")
        digest = _digest(text.strip())
        found = None
        for candidate in self._tokens:  # always all of them, so that the time reveals nothing
            if hmac.compare_digest(candidate.digest, digest):
                found = candidate.client
        return found if scheme.lower() == b"bearer" else None

    def replace(self, tokens: Sequence[Token]) -> None:
        """Take these tokens from now on, and no others."""
        self._tokens = tuple(tokens)


class TokenFiles:
    """The files of a service's tokens, read again when they have changed."""

    def __init__(self, writers: Path, readers: Path | None, *, create: bool) -> None:
        """Read the files; ``create`` makes that of the writers if it is missing.

        Raises:
            BadInput: as :func:`read_tokens`.
        """
        self._writers, self._readers = writers, readers
        if create and not writers.exists():
            _create(writers)
        self._stamp = self._present_stamp()
        self.tokens = Tokens(self._read(), reads_need_token=readers is not None)

    def refresh(self) -> None:
        """Read the files if they have changed. While they cannot be read, the old tokens hold."""
        stamp = self._present_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.tokens.replace(self._read())
        except BadInput as error:
            log.error("tokens not reloaded; the old ones hold", detail=error.message)
        else:
            log.info("tokens reloaded")

    def _read(self) -> list[Token]:
        tokens = [*read_tokens(self._writers, default=SCOPES)]
        if self._readers is not None:
            tokens += read_tokens(self._readers, default=("read",))
        return tokens

    def _present_stamp(self) -> list[tuple[int, int, int] | None]:
        stamps: list[tuple[int, int, int] | None] = []
        for path in (self._writers, self._readers):
            try:
                status = path.stat() if path is not None else None
            except OSError:
                status = None
            stamps.append(status and (status.st_mtime_ns, status.st_size, status.st_ino))
        return stamps


def read_tokens(path: Path, *, default: Sequence[Scope]) -> tuple[Token, ...]:
    """Read tokens from a file of lines ``NAME TOKEN [SCOPE,SCOPE...]``.

    Lines that begin with # are comments. A token without scopes has those of ``default``.

    Raises:
        BadInput: the file cannot be read, or has another line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadInput(
            f"{path} cannot be read ({cause}); give a file with lines `NAME TOKEN`"
        ) from error
    tokens = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) not in (2, 3) or len(parts[1]) < _MIN_LENGTH:
            raise BadInput(
                f"{path}, line {number} is not a name and a token of {_MIN_LENGTH} or more "
                "characters; make a token with `openssl rand -hex 24`"
            )
        scopes = default if len(parts) == 2 else _scopes(parts[2], f"{path}, line {number}")
        tokens.append(token(parts[0], parts[1], scopes))
    if not tokens:
        raise BadInput(f"{path} holds no token; add a line `NAME TOKEN`")
    return tuple(tokens)


def token(name: str, text: str, scopes: Sequence[Scope] = SCOPES) -> Token:
    """Return a token as the service keeps it: only its digest."""
    return Token(Client(name, frozenset(scopes)), _digest(text.encode()))


def scope_missing(client: Client, scope: Scope) -> str:
    """Return the detail of the refusal of a client whose token lacks a scope."""
    return (
        f"the token of {client.name} does not allow this; "
        f"ask the owner of the service for the scope `{scope}`"
    )


def _scopes(text: str, place: str) -> list[Scope]:
    scopes: list[Scope] = [scope for scope in SCOPES if scope in text.split(",")]
    if len(scopes) != len(set(text.split(","))):
        raise BadInput(
            f"{place} has scopes that do not exist ({text}); "
            f"give some of {', '.join(SCOPES)}, with commas and no spaces"
        )
    return scopes


def _create(path: Path) -> None:
    """Create a file of one token that may do everything, readable by its owner."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"ingest {secrets.token_hex(24)}\n")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
