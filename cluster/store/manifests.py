"""Manifests of runs: what a run started from, which versions made it, and what came out.

A manifest is a document of the store. While the run lives, its manifest is written again every
few seconds, so that the garbage collector leaves what the run needs. When the run has finished,
the manifest has the digest of every file of the package, so that the run can be repeated and
compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.store.files import file_sha256
from cluster.store.local import Store
from encoder.errors import BadInput, ShotladderError, StoreUnusable
from encoder.names import shown

HEARTBEAT_SECONDS = 20.0
"""Interval at which a running run writes its manifest again."""
ALIVE_SECONDS = 300.0
"""Age of the manifest after which a running run counts as dead."""

OF_THE_RUN = ("run.json", "report.html")
"""Files of a package that tell what a run cost, and so differ from run to run."""

State = Literal["running", "finished", "failed", "interrupted"]


class Source(BaseModel):
    """The source file of a run."""

    path: str
    """Absolute path on the machine that ran it."""
    sha256: str
    """SHA-256 of the file."""
    size: int
    """Size of the file in bytes."""


class Manifest(BaseModel):
    """The manifest of a run."""

    model_config = ConfigDict(extra="forbid")

    schema_name: Literal["shotladder/manifest/1"] = "shotladder/manifest/1"
    id: str
    """Start time, first digits of the source's digest, and a random part."""
    state: State
    started: str
    """Time of the start: UTC, ISO 8601."""
    ended: str | None = None
    """Time of the end; None while the run lives."""
    title: str
    """First 16 digits of the source's SHA-256."""
    source: Source
    options: dict[str, Any]
    """Options that decide the package, as in `run.json`."""
    weights_sha256: str | None = None
    """SHA-256 of the complexity model's weights, where the user named a file."""
    face_model_sha256: str | None = None
    """SHA-256 of the face model, where the user of an earlier release named one."""
    versions: dict[str, str]
    """Versions that decide the package, by name."""
    out: str
    """Absolute path of the package."""
    error: str | None = None
    """Message of the error that ended the run."""
    files: dict[str, str] = {}
    """SHA-256 of every file of the package except those that tell what the run cost."""
    package: str | None = None
    """One digest of all those files."""
    rungs: int | None = None
    """Number of rungs in the package."""
    costs: dict[str, Any] = {}
    """Encodes, CPU time and the like, from `run.json`."""

    def to_json(self) -> bytes:
        """Return the manifest as the store keeps it."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True).encode() + b"\n"


@dataclass
class Recorder:
    """Keeps the manifest of a run up to date, from a thread of its own."""

    store: Store
    manifest: Manifest
    keys: set[str] = field(default_factory=set)
    """Keys of the records that the package is made of."""

    def finish(self, out: Path, rungs: int, costs: Mapping[str, Any]) -> None:
        """Save the manifest of a run whose package is complete in ``out``."""
        files = package_files(out)
        package = package_digest(files)
        self.save(state="finished", files=files, package=package, rungs=rungs, costs=dict(costs))

    def save(self, **changes: Any) -> None:
        """Write the manifest with these fields changed."""
        ended = {"ended": utc(datetime.now(UTC))} if "state" in changes else {}
        self.manifest = self.manifest.model_copy(update={**changes, **ended})
        if self.keys and "state" in changes:
            packed = b"".join(bytes.fromhex(key) for key in sorted(self.keys))
            self.store.write_entry(_keys_name(self.manifest.id), packed)
        self.store.write_entry(_name(self.manifest.id), self.manifest.to_json())


@contextlib.contextmanager
def recorded(store: Store, manifest: Manifest) -> Iterator[Recorder]:
    """Keep the manifest of the run inside the block up to date, however the run ends.

    Raises:
        StoreUnusable: the manifest cannot be written.
    """
    recorder = Recorder(store, manifest)
    recorder.save()
    ended = threading.Event()

    def write_again_and_again() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(StoreUnusable):
                recorder.save()

    thread = threading.Thread(target=write_again_and_again, name="run-manifest", daemon=True)
    thread.start()
    try:
        try:
            yield recorder
        finally:
            ended.set()
            thread.join()
    except BaseException as error:
        message = error.message if isinstance(error, ShotladderError) else type(error).__name__
        state = "failed" if isinstance(error, Exception) else "interrupted"
        with contextlib.suppress(StoreUnusable):
            recorder.save(state=state, error=shown(message))
        raise


def list_runs(store: Store) -> list[Manifest]:
    """Return the manifests of all runs, the oldest first; dead runs are ``interrupted``."""
    now = store.now()
    runs = []
    for entry in store.entries("runs"):
        if not entry.name.endswith(".json"):
            continue
        try:
            manifest = Manifest.model_validate_json(store.read_entry(entry.name) or b"")
        except ValidationError:  # damaged, or removed meanwhile
            continue
        if manifest.state == "running" and now - entry.modified > ALIVE_SECONDS:
            manifest = manifest.model_copy(update={"state": "interrupted"})
        runs.append(manifest)
    return sorted(runs, key=lambda run: (run.started, run.id))


def find_run(store: Store, name: str) -> Manifest:
    """Return the run whose id begins with ``name``; ``latest`` is the newest that finished.

    Raises:
        BadInput: there is no such run, or more than one.
    """
    runs = list_runs(store)
    if name == "latest":
        finished = [run for run in runs if run.state == "finished"]
        if not finished:
            raise BadInput("no run has finished in this store yet")
        return finished[-1]
    matching = [run for run in runs if run.id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    what = "several runs begin" if matching else "no run begins"
    raise BadInput(f"{what} with {name!r}; `shotladder runs list` names them")


def run_keys(store: Store, run: str) -> set[str]:
    """Return the keys of the records that a run's package is made of."""
    packed = store.read_entry(_keys_name(run)) or b""
    return {packed[at : at + 32].hex() for at in range(0, len(packed), 32)}


def remove_run(store: Store, name: str) -> Manifest:
    """Forget a run and return its manifest: what only that run needs is garbage from now on.

    Raises:
        BadInput: there is no such run, or it is running.
    """
    manifest = find_run(store, name)
    if manifest.state == "running":
        raise BadInput(f"{manifest.id} is running; stop it first")
    store.remove_entry(_name(manifest.id))
    store.remove_entry(_keys_name(manifest.id))
    return manifest


def package_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a package except :data:`OF_THE_RUN`."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OF_THE_RUN
    }


def package_digest(files: Mapping[str, str]) -> str:
    """Return one digest of all files of a package, given the digest of each."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _name(run: str) -> str:
    return f"runs/{run}.json"


def _keys_name(run: str) -> str:
    return f"runs/{run}.keys"


def utc(when: datetime) -> str:
    """Return a time as manifests have it."""
    return when.isoformat(timespec="milliseconds")
