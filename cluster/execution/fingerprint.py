"""What a process is made of, as far as results depend on it: its code, its tools, its models.

Two processes of equal identity give equal bits, so a worker takes work only from a client of its
own identity. The ticket is a name for it: workers offer it to Dask as a resource and clients ask
for it, so that a cluster may hold workers of several releases at once.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from encoder import ffmpeg

PACKAGES = ("encoder", "vmaf", "ladder", "recommender", "cluster")
LIBRARIES = ("av", "numpy", "opencv-python", "scenedetect", "dask", "distributed")
"""Distributions that decide what is seen in a title, or whether processes understand each other."""

_CODE = (".py", ".toml")
_MODELS = (".safetensors",)


@dataclass(frozen=True, slots=True)
class Identity:
    """Versions by the name of what they are of."""

    parts: Mapping[str, str]

    @property
    def ticket(self) -> str:
        """Name of a Dask resource: one unit is one core of a worker of this identity."""
        text = "\n".join(f"{name}={self.parts[name]}" for name in sorted(self.parts))
        return f"shotladder-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def differences(self, other: Identity) -> list[str]:
        """What ``other`` has otherwise, in words; empty if nothing."""
        return [
            f"{name} is {other.parts.get(name, 'missing')} there and "
            f"{self.parts.get(name, 'missing')} here"
            for name in sorted({*self.parts, *other.parts})
            if self.parts.get(name) != other.parts.get(name)
        ]


@functools.cache
def own_identity() -> Identity:
    """Of this process; found once.

    Raises:
        ToolFailed: there is no ffmpeg.
    """
    parts = {
        "shotladder": version("shotladder"),
        "code": _digest(_CODE),
        "models": _digest(_MODELS),
        "ffmpeg": ffmpeg.version(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    for name in LIBRARIES:
        try:
            parts[name] = version(name)
        except PackageNotFoundError:
            parts[name] = "missing"
    return Identity(parts)


def _digest(suffixes: tuple[str, ...]) -> str:
    """Of all our files with one of these suffixes: names and contents."""
    digest = hashlib.sha256()
    for package, path in _files(suffixes):
        digest.update(f"{package}/{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files(suffixes: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        place = import_module(package).__file__
        assert place is not None
        folder = Path(place).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield str(path.parent.relative_to(folder.parent)), path
