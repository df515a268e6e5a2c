"""Runs remembered: what went in, what it was made with, what came out.

A run's manifest is a document of the store. While the run lives it is written again every few
seconds, so that housekeeping leaves what the run needs; afterwards it names the digest of every
file of the package, so that the run can be repeated and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.execution.fingerprint import own_identity
from cluster.jobs.options import RunOptions
from cluster.stages.encodes import TitleSource
from cluster.store import Store, open_store
from cluster.store.files import file_sha256
from cluster.store.shelf import Shelf, shelf
from encoder.errors import BadInput, ShotladderError, StoreUnusable, VerificationFailed

BEAT_SECONDS = 20.0
ALIVE_SECONDS = 300.0
"""A run whose manifest was not written for so long is dead."""

OF_THE_RUN = ("run.json", "report.html")
"""Files of a package that tell what a run cost: they differ from run to run."""

State = Literal["running", "finished", "failed", "interrupted"]


class Source(BaseModel):
    """A run's source."""

    path: str
    sha256: str
    size: int


class Manifest(BaseModel):
    """What is remembered of a run."""

    model_config = ConfigDict(extra="forbid")

    schema_name: Literal["shotladder/manifest/1"] = "shotladder/manifest/1"
    id: str
    state: State
    started: str
    """UTC, ISO 8601."""
    ended: str | None = None
    title: str
    source: Source
    options: dict[str, Any]
    """All that decides the package: as `run.json` has them."""
    weights_sha256: str | None = None
    """Of weights that the user named."""
    face_model_sha256: str | None = None
    versions: dict[str, str]
    out: str
    error: str | None = None
    files: dict[str, str] = {}
    """SHA-256 of every file of the package but what tells what a run cost."""
    package: str | None = None
    """Digest of them all."""
    rungs: int | None = None
    costs: dict[str, Any] = {}
    """What it took, from `run.json`."""

    def to_json(self) -> bytes:
        """As it is kept."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True).encode() + b"\n"


def options_document(options: RunOptions) -> dict[str, Any]:
    """The options that decide a package's bits."""
    return {
        "search": options.search,
        "codec": options.codec,
        "preset": options.preset,
        "profile": options.profile,
        "heights": list(options.heights) if options.heights else None,
        "policy": options.policy,
        "also": list(options.also),
        "tone_map": options.tone_map,
        "face_model": str(options.face_model.resolve()) if options.face_model else None,
        "weights": str(options.weights.resolve()) if options.weights else None,
    }


@dataclass
class Recorder:
    """Keeps a run's manifest up to date, from a thread of its own."""

    place: Shelf
    manifest: Manifest
    keys: set[str] = field(default_factory=set)
    """Of the records that its package was made of."""
    _ended: threading.Event = field(default_factory=threading.Event)

    def note(self, keys: Iterable[str]) -> None:
        """These records are part of it."""
        self.keys.update(keys)

    def finish(self, out: Path, rungs: int, costs: Mapping[str, Any]) -> None:
        """The package is in place."""
        files = package_files(out)
        self._write(
            state="finished",
            files=files,
            package=package_digest(files),
            rungs=rungs,
            costs=dict(costs),
        )

    def _write(self, **changes: Any) -> None:
        ended = {"ended": _utc()} if "state" in changes else {}
        self.manifest = self.manifest.model_copy(update={**changes, **ended})
        if self.keys and "state" in changes:
            packed = b"".join(bytes.fromhex(one) for one in sorted(self.keys))
            self.place.write(_keys_name(self.manifest.id), packed)
        self.place.write(_name(self.manifest.id), self.manifest.to_json())

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(StoreUnusable):
                self._write()


@contextlib.contextmanager
def recorded(options: RunOptions, source: TitleSource, store: Store) -> Iterator[Recorder]:
    """Remember a run, however it ends."""
    begun = datetime.now(UTC)
    path = options.source.resolve()
    manifest = Manifest(
        id=f"{begun:%Y%m%dT%H%M%S}-{source.id[:8]}-{os.urandom(2).hex()}",
        state="running",
        started=_utc(begun),
        title=source.id,
        source=Source(path=str(path), sha256=source.sha256, size=path.stat().st_size),
        options=options_document(options),
        weights_sha256=file_sha256(options.weights) if options.weights else None,
        face_model_sha256=file_sha256(options.face_model) if options.face_model else None,
        versions=dict(own_identity().parts),
        out=str(options.out.resolve()),
    )
    recorder = Recorder(shelf(store), manifest)
    recorder._write()
    thread = threading.Thread(target=recorder._beat, name="run-manifest", daemon=True)
    thread.start()
    try:
        yield recorder
    except BaseException as error:
        recorder._ended.set()
        thread.join()
        message = error.message if isinstance(error, ShotladderError) else type(error).__name__
        stopped = not isinstance(error, Exception)
        with contextlib.suppress(StoreUnusable):
            recorder._write(state="interrupted" if stopped else "failed", error=message)
        raise
    finally:
        recorder._ended.set()
        thread.join()


# -- looking back ------------------------------------------------------------------------------


def list_runs(store: Path | str) -> list[Manifest]:
    """All runs of a store, the oldest first; those that died are ``interrupted``."""
    from cluster.store.shelf import now

    place = shelf(open_store(store))
    current = now(place)
    found = []
    for entry in place.list("runs"):
        if not entry.name.endswith(".json"):
            continue
        manifest = _parsed(place.read(entry.name))
        if manifest is None:
            continue
        if manifest.state == "running" and current - entry.modified > ALIVE_SECONDS:
            manifest = manifest.model_copy(update={"state": "interrupted"})
        found.append(manifest)
    return sorted(found, key=lambda one: (one.started, one.id))


def find_run(store: Path | str, name: str) -> Manifest:
    """The run whose id begins with ``name``; ``latest`` is the newest that finished.

    Raises:
        BadInput: there is none, or more than one.
    """
    runs = list_runs(store)
    if name == "latest":
        finished = [one for one in runs if one.state == "finished"]
        if not finished:
            raise BadInput("no run has finished in this store yet")
        return finished[-1]
    found = [one for one in runs if one.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = "several runs begin" if found else "no run begins"
    raise BadInput(f"{what} with {name!r}; `shotladder runs list` names them")


def run_keys(place: Shelf, run: str) -> set[str]:
    """Keys of the records that a run's package was made of."""
    packed = place.read(_keys_name(run)) or b""
    return {packed[at : at + 32].hex() for at in range(0, len(packed), 32)}


def remove_run(store: Path | str, name: str) -> Manifest:
    """Forget a run: what only it needs may be collected then.

    Raises:
        BadInput: there is no such run, or it is running.
    """
    manifest = find_run(store, name)
    if manifest.state == "running":
        raise BadInput(f"{manifest.id} is running; stop it first")
    place = shelf(open_store(store))
    place.remove(_name(manifest.id))
    place.remove(_keys_name(manifest.id))
    return manifest


def differences(one: Manifest, other: Manifest) -> list[tuple[str, Any, Any]]:
    """What two runs do not have in common: (what, of the one, of the other)."""
    left, right = _flat(one), _flat(other)
    return [
        (name, left.get(name), right.get(name))
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]


def repeated(before: Manifest, options: RunOptions) -> RunOptions:
    """``options`` with all that decided the package of an earlier run.

    Raises:
        BadInput: its source or its weights are not there, or are others by now.
    """
    asked = before.options
    weights = Path(asked["weights"]) if asked.get("weights") else None
    face_model = Path(asked["face_model"]) if asked.get("face_model") else None
    for what, path, digest in (
        ("source", options.source, before.source.sha256),
        ("weights", weights, before.weights_sha256),
        ("face model", face_model, before.face_model_sha256),
    ):
        if path is None:
            continue
        if not path.is_file():
            raise BadInput(f"the {what} of run {before.id} is not at {path} any more; name it")
        if file_sha256(path) != digest:
            raise BadInput(f"{path} is not the {what} of run {before.id}: its content differs")
    return replace(
        options,
        search=asked["search"],
        codec=asked["codec"],
        preset=asked["preset"],
        profile=asked["profile"],
        heights=tuple(asked["heights"]) if asked["heights"] else None,
        policy=asked["policy"],
        also=tuple(asked["also"]),
        tone_map=asked.get("tone_map", False),
        weights=weights,
        face_model=face_model,
    )


def check_repeated(before: Manifest, after: Manifest) -> None:
    """See that a run gave what an earlier one gave.

    Raises:
        VerificationFailed: it did not; says which files, and what else differs.
    """
    if before.package == after.package:
        return
    changed = [
        name
        for name in sorted({*before.files, *after.files})
        if before.files.get(name) != after.files.get(name)
    ]
    causes = [
        f"{name.removeprefix('versions.')} was {was} and is {now}"
        for name, was, now in differences(before, after)
        if name.startswith(("versions.", "weights_sha256", "face_model_sha256"))
    ]
    why = "; ".join(causes) or "nothing that is known of has changed since"
    raise VerificationFailed(
        f"the package differs from that of run {before.id} in {len(changed)} of "
        f"{len(before.files)} files ({', '.join(changed[:3])}): {why}",
        files=changed,
    )


def package_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a package but :data:`OF_THE_RUN`."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OF_THE_RUN
    }


def package_digest(files: Mapping[str, str]) -> str:
    """One digest of all of them."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(manifest: Manifest) -> dict[str, Any]:
    document = manifest.model_dump(exclude={"id", "started", "ended", "costs"})
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat


def _parsed(content: bytes | None) -> Manifest | None:
    with contextlib.suppress(ValidationError):
        return Manifest.model_validate_json(content or b"")
    return None


def _name(run: str) -> str:
    return f"runs/{run}.json"


def _keys_name(run: str) -> str:
    return f"runs/{run}.keys"


def _utc(when: datetime | None = None) -> str:
    return (when or datetime.now(UTC)).isoformat(timespec="milliseconds")
