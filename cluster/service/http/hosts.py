"""Names under which the service is asked: a page of another site must not be one of them.

A browser sends the name that its page came from as ``Host``. By DNS rebinding a hostile name leads
to this service, and its page could read what is open. An address is never such a name.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import lru_cache

from encoder.errors import BadInput

_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


class AllowedHosts:
    """The names under which the service answers, beside every IP address."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take names; ``*.example.com`` allows every name below that domain, ``*`` every name.

        Raises:
            BadInput: one of them is not a name.
        """
        for name in names:
            if not _PATTERN.fullmatch(name.lower()):
                raise BadInput(
                    f"--allowed-host {name} is not a host name; give it as ladders.example.com "
                    "or *.example.com, without scheme and port"
                )
        self._names = tuple(name.lower() for name in names)
        self.allows = lru_cache(maxsize=512)(self._allows)
        """Return whether a ``Host`` header is allowed."""

    def _allows(self, header: bytes) -> bool:
        if "*" in self._names:
            return True
        host = header.decode("latin-1").strip().lower()
        bracketed, _, _ = host.removeprefix("[").partition("]")
        name = (bracketed if host.startswith("[") else host.partition(":")[0]).rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return any(
                name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed
                for allowed in self._names
            )
        return True


def own_names(host: str) -> tuple[str, ...]:
    """Return the names of a service that listens at ``host``: this machine's."""
    names = ("localhost", "*.localhost", socket.gethostname(), host)
    return tuple(name for name in names if _PATTERN.fullmatch(name.lower()) and name != "*")


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, under which the service always answers."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a service that listens at ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
