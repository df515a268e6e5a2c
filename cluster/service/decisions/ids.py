"""Signed ids of decisions, and pseudonyms of viewers.

An id holds the moment of its decision and a random number, and a signature over both, so that
nobody can report on a decision that was never made::

    d1.AAAAAGrE9C0x8mD2c0Wc1g.Zk3vT0PqkM2rYw4hJ8cX1A

A viewer is kept as a keyed digest of the viewer's name and the day: what one viewer did on two days
cannot be put together from the log. The keys are those in the file ``policy/keys``, one in a line;
the first one signs, each of them verifies. To end the validity of ids, remove their key; the
viewers of that key get new pictures then, and otherwise when their day ends.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import struct
import time
from collections.abc import Callable, Sequence

from cluster.service.library.links import SigningKeys

REFRESH_SECONDS = 5.0
"""Time within which a change of the keys takes effect."""
_PREFIX = "d1"
_SIGNATURE_BYTES = 16
_RANDOM_BYTES = 10


class DecisionIds:
    """Makes and verifies ids by the keys of a service."""

    def __init__(self, keys: SigningKeys, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._looked = clock()

    def _present(self) -> tuple[bytes, ...]:
        """Return the keys, which are read again when their file has changed."""
        if self._clock() - self._looked > REFRESH_SECONDS:
            self._looked = self._clock()
            self._keys.refresh()
        return self._keys.present()

    def make(self, at: float) -> str:
        """Return a new id of a decision that is made now."""
        content = struct.pack(">Q", int(at * 1000))[2:] + os.urandom(_RANDOM_BYTES)
        return ".".join((_PREFIX, _text(content), _text(_signed(self._present()[0], content))))

    def moment(self, decision_id: str) -> float | None:
        """Return when the decision of an id was made; None if the id was not made here."""
        prefix, _, rest = decision_id.partition(".")
        content_text, _, signature_text = rest.partition(".")
        try:
            content, signature = _bytes(content_text), _bytes(signature_text)
        except (binascii.Error, ValueError):
            return None
        if prefix != _PREFIX or len(content) != 6 + _RANDOM_BYTES:
            return None
        if not any(
            hmac.compare_digest(_signed(key, content), signature) for key in self._present()
        ):
            return None
        return float(struct.unpack(">Q", b"\0\0" + content[:6])[0]) / 1000

    def viewer_days(self, viewer: str, day: str) -> tuple[str, ...]:
        """Return the pseudonyms of a viewer on a day by each key, that of the one that signs first:
        a viewer keeps for the day the one that the first decision of the day was made by."""
        return tuple(_digest(key, ("viewer", viewer, day))[:24] for key in self._present())

    def digest(self, *parts: str) -> str:
        """Return a keyed digest of texts, in hexadecimal digits."""
        return _digest(self._present()[0], parts)


def _digest(key: bytes, parts: Sequence[str]) -> str:
    texts = [part.encode() for part in parts]
    message = b"".join(struct.pack(">I", len(text)) + text for text in texts)
    return hmac.digest(key, message, "sha256").hex()


def _signed(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, b"decision " + content, "sha256")[:_SIGNATURE_BYTES]


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(found) != text:
        raise ValueError("not the text of these bytes")
    return found
