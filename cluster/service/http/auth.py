"""Authentication by bearer tokens, which are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import BadInput

ANYBODY = "anybody"
"""Name of every client where reads need no token."""
_MIN_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Token:
    """Digest of a token, and the name of the client that has the token."""

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a service, by what they allow."""

    writers: tuple[Token, ...]
    readers: tuple[Token, ...] = ()
    """Tokens that may only read. Where there are none, reads need no token."""

    def writer(self, authorization: bytes | None) -> str | None:
        """Return the client's name if this ``Authorization`` header allows writing, else None."""
        return _bearer(authorization, self.writers)

    def reader(self, authorization: bytes | None) -> str | None:
        """Return the client's name if this ``Authorization`` header allows reading, else None."""
        if not self.readers:
            return ANYBODY
        return _bearer(authorization, (*self.readers, *self.writers))


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read tokens from a file of lines ``NAME TOKEN``; lines that begin with # are comments.

    Raises:
        BadInput: the file cannot be read, or has a line that is not a name and a token.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); give a file with lines `NAME TOKEN`"
        ) from error
    tokens = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 2 or len(parts[1]) < _MIN_LENGTH:
            raise BadInput(
                f"{path}, line {number} is not a name and a token of {_MIN_LENGTH} or more "
                "characters; make a token with `openssl rand -hex 24`"
            )
        tokens.append(token(*parts))
    if not tokens:
        raise BadInput(f"{path} holds no token; add a line `NAME TOKEN`")
    return tuple(tokens)


def read_or_create_tokens(path: Path) -> tuple[Token, ...]:
    """Read tokens from a file. A missing file is created with one token, readable by its owner.

    Raises:
        BadInput: as :func:`read_tokens`.
    """
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"ingest {secrets.token_hex(24)}\n")
    return read_tokens(path)


def token(name: str, text: str) -> Token:
    """Return a token as the service keeps it: only its digest."""
    return Token(name, _digest(text.encode()))


def _bearer(authorization: bytes | None, tokens: Sequence[Token]) -> str | None:
    scheme, _, text = (authorization or b"").partition(b" ")
    digest = _digest(text.strip())
    name = None
    for candidate in tokens:  # always all of them, so that the time taken reveals nothing
        if hmac.compare_digest(candidate.digest, digest):
            name = candidate.name
    return name if scheme.lower() == b"bearer" else None


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
