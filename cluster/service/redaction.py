"""What URLs keep to themselves: the one place where secrets are cut out of what others see.

A pre-signed URL of a source has its signature in its query, and a webhook often has a secret in its
path. The tables keep both whole, since the service needs them. Every way out passes through here:
answers to clients that may not submit, webhooks, texts of errors and events, and logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

CUT = "..."
"""What stands in the place of what was cut out."""
_URL = re.compile(r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<rest>[^\s"'<>\\`]+)""", re.IGNORECASE)
_SIGNATURE = re.compile(r"(\.[0-9]{1,10}\.[0-9]{1,12}\.)[0-9a-f]{32}", re.IGNORECASE)
"""A version, the moment of expiry and the signature, also in a path that is not quite right."""


def without_secrets(value: Any) -> Any:
    """Return JSON with user names, queries and fragments cut out of the URLs in its texts."""
    if isinstance(value, str):
        return _URL.sub(_cut, value) if "://" in value else value
    if isinstance(value, Mapping):
        return {key: without_secrets(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(part) for part in value]
    return value


def for_logs(value: Any) -> Any:
    """Return JSON without secrets, and without the signatures of this service's own URLs, which
    answers and webhooks have to name."""
    if isinstance(value, str):
        return _SIGNATURE.sub(rf"\g<1>{CUT}", without_secrets(value))
    if isinstance(value, Mapping):
        return {key: for_logs(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [for_logs(part) for part in value]
    return value


def origin_of(url: str) -> str:
    """Return a webhook as others may see it: only its scheme and host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return CUT
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{CUT}"


def _cut(found: re.Match[str]) -> str:
    rest = found["rest"]
    authority, slash, path = rest.partition("/")
    authority = authority.rpartition("@")[2]
    shown = f"{authority}{slash}{path}"
    for mark in "?#":
        shown, mark_found, secret = shown.partition(mark)
        if mark_found and secret:
            return f"{found['scheme']}{shown}{mark}{CUT}{_closing(secret)}"
    return f"{found['scheme']}{shown}"


def _closing(text: str) -> str:
    """Return the punctuation at the end of a URL that belongs to the sentence around it."""
    return text[len(text.rstrip(".,:;!?)]}")) :]
