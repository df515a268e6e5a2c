"""URLs under which players read packages, and the signatures in them.

Where reading needs a token, an ``<img>``, a native HLS player or a TV cannot send one. It is given
a signed URL instead::

    /v1/signed/TITLE.VERSION.EXPIRES.SIGNATURE/master.m3u8

The signature is a part of the path, so that the relative URIs of playlists and manifests inherit
it. It holds for the files of one version of one title until a moment, and no longer than that
version can be read: a takedown ends it. Keys are in the file ``signing-keys``, one in a line. The
first one signs, each of them verifies.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import BadInput, NotThere, StoreUnusable

PACKAGES, SIGNED = "/v1/packages/", "/v1/signed/"
SIGNED_SECONDS = 24 * 3600.0
"""Least time for which the signed URLs in answers hold."""
MAX_SIGNED_SECONDS = 30 * 24 * 3600
"""Longest time for which a URL can be signed."""
_STEPS = 4
"""Parts of the time of a signature in which answers name the same URL, so that caches can work."""
_SIGNATURE_LENGTH = 32
_MIN_KEY_LENGTH = 32
_SUBJECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})\.([1-9][0-9]{0,9})\.([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version of a title: its package, and whether that can be read as this version now."""

    package: str
    readable: bool


class SigningKeys:
    """The keys in a file, which is made with one key when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[bytes, ...] = ()
        self._stamp: tuple[int, int, int] | None = None

    def present(self) -> tuple[bytes, ...]:
        """Return the keys, the one that signs first.

        Raises:
            StoreUnusable: the file cannot be read or made, or holds no key.
        """
        if not self._keys:
            self.refresh()
        return self._keys

    def refresh(self) -> None:
        """Read the file if it has changed, and make it if it is missing.

        Raises:
            StoreUnusable: as :meth:`present`; the keys from before hold.
        """
        try:
            if not self._path.exists():
                _create(self._path)
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            keys = tuple(self._path.read_bytes().split())
        except OSError as error:
            raise StoreUnusable(
                f"{self._path} cannot be used ({error.strerror}), so that no URL can be signed; "
                "make it readable for the service"
            ) from error
        if not keys or min(map(len, keys)) < _MIN_KEY_LENGTH:
            raise StoreUnusable(
                f"{self._path} has a key of fewer than {_MIN_KEY_LENGTH} characters or none; write "
                "one key in a line, or remove the file to have one made"
            )
        self._keys, self._stamp = keys, stamp


class Links:
    """Makes the URLs of packages' files, and takes signed ones apart."""

    def __init__(
        self,
        keys: SigningKeys,
        *,
        media_url: str = "",
        signed: bool = False,
        signed_seconds: float = SIGNED_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what URLs depend on.

        Args:
            keys: keys of signatures.
            media_url: prefix of all URLs, for example of a CDN; empty for the service's own.
            signed: whether answers name signed URLs, since reading needs a token.
            signed_seconds: for how long those hold at least.
            clock: seconds since the epoch.
        """
        self.keys = keys
        self._media_url = media_url.rstrip("/")
        self._signed = signed
        self._signed_seconds = signed_seconds
        self._clock = clock

    def base(self, title: str, version: int, package: str) -> str:
        """Return the prefix of the URIs of a package's files, as answers name it.

        It is signed where reading needs a token. Without a media URL it begins at the root of the
        service: with ``/v1/``.
        """
        if not self._signed:
            return f"{self._media_url}{PACKAGES}{package}/"
        step = max(int(self._signed_seconds / _STEPS), 1)
        expires = (int(self._clock() + self._signed_seconds) // step + 1) * step
        return self.signed(title, version, package, expires)

    def signed(self, title: str, version: int, package: str, expires: int) -> str:
        """Return the prefix of the URIs of a version's files, signed until ``expires``, in seconds
        since the epoch.

        Raises:
            StoreUnusable: there is no key.
        """
        subject = f"{title}.{version}.{expires}"
        signature = _signature(self.keys.present()[0], subject, package)
        return f"{self._media_url}{SIGNED}{subject}.{signature}/"

    def expiry(self, seconds: float | None = None) -> int:
        """Return when a URL expires that is signed now for a time, in seconds since the epoch."""
        return int(self._clock() + (seconds or self._signed_seconds))

    def opened(
        self, segment: str, find: Callable[[str, int], KeptVersion | None]
    ) -> tuple[str, int]:
        """Return the package that a signed URL is for, and the seconds for which it still holds.

        Args:
            segment: the part of the path that has the signature.
            find: returns a version of a title by its number; None if there has never been one.

        Raises:
            BadInput: the URL has expired, or was not signed with one of the keys.
            NotThere: the version cannot be read any more.
            StoreUnusable: there is no key.
        """
        subject, _, signature = segment.rpartition(".")
        title, number, expires = _parsed(subject)
        version = find(title, number)
        package = "" if version is None else version.package
        valid = [
            hmac.compare_digest(_signature(key, subject, package).encode(), signature.encode())
            for key in self.keys.present()
        ]
        if version is None or not any(valid):
            raise _refused()
        left = expires - int(self._clock())
        if left <= 0:
            raise BadInput(
                f"this URL of {title} has expired; ask for a new one with "
                f"GET /v1/titles/{title}/signed",
                reason="signature_expired",
            )
        if not version.readable:
            raise NotThere(
                f"version {number} of {title} was withdrawn or replaced; GET /v1/changes tells "
                "when",
                reason="withdrawn",
            )
        return package, left


def expiry_in(base: str) -> int | None:
    """Return when a prefix of URIs that :class:`Links` made expires, in seconds since the epoch;
    None for one that holds for ever."""
    _, signed, rest = base.partition(SIGNED)
    return int(rest.rstrip("/").rsplit(".", 2)[1]) if signed else None


def _parsed(subject: str) -> tuple[str, int, int]:
    """Return title, version and expiry that a signature is said to be for."""
    found = _SUBJECT.fullmatch(subject)
    if found is None:
        raise _refused()
    return found[1], int(found[2]), int(found[3])


def _refused() -> BadInput:
    return BadInput(
        "the signature in this URL is not of this service; ask for a URL with "
        "GET /v1/titles/{title}/signed",
        reason="signature_invalid",
    )


def _signature(key: bytes, subject: str, package: str) -> str:
    message = f"shotladder {subject} {package}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:_SIGNATURE_LENGTH]


def _create(path: Path) -> None:
    """Create a file of one key, readable by its owner; another process may be first."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(partial)
    finally:
        partial.unlink()
