"""Fingerprint of everything that can change a result: code, weights, tools.

Two processes with equal fingerprints compute equal bits, so a worker only takes tasks from clients
with its own fingerprint. The ticket is a short name of a fingerprint: workers offer the ticket to
Dask as a resource and clients ask for it, so that one cluster can have workers of several releases.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from encoder import ffmpeg

PACKAGES = ("encoder", "vmaf", "ladder", "recommender", "cluster")
LIBRARIES = ("av", "numpy", "opencv-python", "scenedetect", "dask", "distributed")
"""Distributions that decide what an analysis finds in a title, or whether processes can talk."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Fingerprint of a process."""

    parts: Mapping[str, str]
    """Version or digest of each part (code, weights, ffmpeg, libraries), by name."""

    @property
    def ticket(self) -> str:
        """Name of a Dask resource: one unit is one core of a worker with this fingerprint."""
        text = "\n".join(f"{name}={self.parts[name]}" for name in sorted(self.parts))
        return f"shotladder-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def differences(self, other: Fingerprint) -> list[str]:
        """Say which parts of ``other`` differ; empty if the two are equal."""
        return [
            f"{name} is {other.parts.get(name, 'missing')} there and "
            f"{self.parts.get(name, 'missing')} here"
            for name in sorted({*self.parts, *other.parts})
            if self.parts.get(name) != other.parts.get(name)
        ]


@functools.cache
def own_fingerprint() -> Fingerprint:
    """Return this process's fingerprint, computed once.

    Raises:
        ToolFailed: there is no ffmpeg.
    """
    parts = {
        "shotladder": version("shotladder"),
        "code": _digest(".py", ".toml"),
        "models": _digest(".safetensors", ".tflite"),
        "ffmpeg": ffmpeg.version(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    for name in LIBRARIES:
        try:
            parts[name] = version(name)
        except PackageNotFoundError:
            parts[name] = "missing"
    return Fingerprint(parts)


def _digest(*suffixes: str) -> str:
    """Return a digest of the names and contents of shotladder's files with these suffixes."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        place = import_module(package).__file__
        assert place is not None
        folder = Path(place).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in suffixes and path.is_file():
                digest.update(f"{path.relative_to(folder.parent)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
