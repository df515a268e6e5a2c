"""Examine what this machine can do. Findings are values."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cluster.execution.executor import usable_cores
from cluster.jobs.findings import Finding
from cluster.store.objects import Objects
from cluster.store.place import store_place
from cluster.store.remote import cache_folder
from encoder import ffmpeg
from encoder.errors import BadInput, ShotladderError, SourceUnusable, StoreUnusable, ToolFailed
from encoder.recipes import CODECS
from vmaf import models

WORKER_BYTES = 2 * 2**30
"""Approximate memory of one worker's ffmpeg at 1080p: encoders' lookahead and frames in queues."""
STORE_BYTES = 5 * 2**30
"""Free space below which a single title is likely to fill the disk."""


def examine_machine(store: Path | str | None = None) -> tuple[Finding, ...]:
    """Examine ffmpeg with its encoders and VMAF models, processors, memory and the store."""
    return (
        Finding("shotladder", f"{version('shotladder')}, Python {platform.python_version()}"),
        *_tool(),
        *_machine(),
        _store(store_place(store)),
    )


def _tool() -> tuple[Finding, ...]:
    override = os.environ.get(ffmpeg.ENVIRONMENT_VARIABLE)
    origin = f"set by {ffmpeg.ENVIRONMENT_VARIABLE}" if override else "from imageio-ffmpeg"
    try:
        tool = Finding("ffmpeg", f"{ffmpeg.version()}, {origin}: {ffmpeg.binary()}")
    except ToolFailed as error:
        return (Finding("ffmpeg", error.message, state="bad"),)
    return tool, *_encoders(), _models(), *_judges()


def _encoders() -> tuple[Finding, ...]:
    required, optional = ("libx264", "aac"), ("libx265", "libsvtav1", "libvpx-vp9")
    filters = ("libvmaf", "scale", "bwdif", "fps")
    lacking = set(ffmpeg.lacking((*required, *filters, *optional)))
    encoders = [name for name in (*required, *optional) if name not in lacking]
    findings = [
        Finding("encoders", ", ".join(encoders) or "none", f"--codec takes {', '.join(CODECS)}")
    ]
    if missing := [name for name in (*required, *filters) if name in lacking]:
        remedy = f"unset {ffmpeg.ENVIRONMENT_VARIABLE}, or name an ffmpeg built with them"
        findings.append(Finding("missing", ", ".join(missing), remedy, "bad"))
    return tuple(findings)


def _models() -> Finding:
    # Nearly every ffmpeg loads all models at once; only where that fails is each tried alone.
    loaded: Sequence[str] = models.VMAF
    if not _models_load(loaded):
        loaded = [name for name in models.VMAF if _models_load([name])]
    lacking = [name for name in models.VMAF if name not in loaded]
    listed = ", ".join(loaded) or "none"
    if models.V1 in lacking:
        remedy = f"{models.V1} is needed; name an ffmpeg with a newer libvmaf"
        return Finding("VMAF models", listed, remedy, "bad")
    if lacking:
        return Finding(
            "VMAF models", listed, f"missing in this build: {', '.join(lacking)}", "warn"
        )
    return Finding("VMAF models", listed)


def _judges() -> tuple[Finding, ...]:
    if not (lacking := ffmpeg.lacking(models.JUDGES)):
        return ()
    then = "`ladder compare` and --also need them; name an ffmpeg from release 7.1"
    return (Finding("missing judges", ", ".join(lacking), then, "warn"),)


def _models_load(names: Sequence[str]) -> bool:
    """Return whether libvmaf can score two small frames by all of these models."""
    versions = "|".join(f"version={name}" for name in names)
    # Separators in a filter's option are escaped twice: for the option and for the graph.
    option = versions.replace(":", "\\\\:")
    # Smaller pictures crash the models made for 2160p.
    picture = "color=gray:size=640x360:rate=25:duration=0.08,format=yuv420p"
    graph = f"{picture}[a];{picture}[b];[a][b]libvmaf=model={option}"
    arguments = ["-v", "error", "-filter_complex", graph, "-f", "null", "-"]
    try:
        ffmpeg.run(ffmpeg.Command.of(arguments), timeout_seconds=120)
    except ToolFailed:
        return False
    return True


def _machine() -> tuple[Finding, ...]:
    cores, memory = usable_cores(), _memory_bytes()
    tight = memory < cores * WORKER_BYTES
    return (
        Finding("cores", str(cores), f"{cores} worker{'s' * (cores > 1)} by default"),
        Finding(
            "memory",
            f"{memory / 2**30:.1f} GiB",
            f"tight for {cores} workers at 1080p; use fewer with --workers" if tight else "",
            "warn" if tight else "ok",
        ),
    )


def _memory_bytes() -> int:
    """Return the memory of the machine, or of the container where that has less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # the container has no limit
        return physical


def _store(root: Path | str) -> Finding:
    if isinstance(root, str):
        try:
            Objects(root).find("nothing")
        except (BadInput, StoreUnusable) as error:
            return Finding("store", root, error.message, "bad")
        return Finding("store", root, f"cached in {cache_folder(root)}")
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = f"{root} ({free / 2**30:.1f} GiB free)"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding(
            "store", found, f"{existing} cannot be written; name another store with --store", "bad"
        )
    if free < STORE_BYTES:
        return Finding(
            "store", found, "little space; free some, or name another store with --store", "warn"
        )
    return Finding("store", found, "" if root.exists() else "the first run creates it")


def unhealthy(findings: Sequence[Finding], source: Path | None) -> ShotladderError:
    """Return the error for findings of which at least one is bad.

    Args:
        findings: what was found.
        source: the file that was examined; None where it was the machine.
    """
    bad = "; ".join(
        f"{finding.topic}: {finding.found}" + (f" ({finding.then})" if finding.then else "")
        for finding in findings
        if finding.state == "bad"
    )
    if source is not None:
        return SourceUnusable(f"{source} cannot be used: {bad}")
    return ShotladderError(f"this machine cannot run shotladder: {bad}")
