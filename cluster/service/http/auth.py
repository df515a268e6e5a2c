"""Who may ask: bearer tokens, compared in constant time."""

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
_LEAST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Token:
    """A token and whose it is. Only its digest is kept."""

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Tokens:
    """Who may do what."""

    writers: tuple[Token, ...]
    readers: tuple[Token, ...] = ()
    """Where there are none, everybody may read."""

    def writer(self, authorization: bytes | None) -> str | None:
        """Name of who may write with this ``Authorization`` header; None: nobody."""
        return _bearer(authorization, self.writers)

    def reader(self, authorization: bytes | None) -> str | None:
        """Name of who may read with it; None: nobody."""
        if not self.readers:
            return ANYBODY
        return _bearer(authorization, (*self.readers, *self.writers))


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Tokens from a file: lines of a name and a token; lines that begin with # do not count.

    Raises:
        BadInput: it cannot be read, or holds something else.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); give a file with lines NAME TOKEN"
        ) from error
    tokens = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) != 2 or len(parts[1]) < _LEAST_LENGTH:
            raise BadInput(
                f"{path}, line {number} is not a name and a token of {_LEAST_LENGTH} or more "
                "characters; `openssl rand -hex 24` makes one"
            )
        tokens.append(token(*parts))
    if not tokens:
        raise BadInput(f"{path} holds no token; put a line NAME TOKEN into it")
    return tuple(tokens)


def own_tokens(path: Path) -> tuple[Token, ...]:
    """As :func:`read_tokens`, of a file that is made with one token, for its owner's eyes, if it
    is not there yet.
    """
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"ingest {secrets.token_hex(24)}\n")
    return read_tokens(path)


def token(name: str, text: str) -> Token:
    """A token as it is kept."""
    return Token(name, _digest(text.encode()))


def _bearer(authorization: bytes | None, tokens: Sequence[Token]) -> str | None:
    scheme, _, text = (authorization or b"").partition(b" ")
    given = _digest(text.strip())
    found = None
    for one in tokens:  # all of them, always: time tells nothing
        if hmac.compare_digest(one.digest, given):
            found = one.name
    return found if scheme.lower() == b"bearer" else None


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
