"""Runs compared with earlier ones, and repeated."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import Any

from cluster.execution.fingerprint import own_fingerprint
from cluster.jobs.request import LadderOptions, RunOptions
from cluster.stages.title import TitleSource
from cluster.store import Store, file_sha256, manifests
from cluster.store.manifests import Manifest, Recorder
from encoder.errors import BadInput, VerificationFailed
from encoder.names import shown


def recorded(
    options: RunOptions, source: TitleSource, store: Store
) -> contextlib.AbstractContextManager[Recorder]:
    """Keep a manifest of the run inside the block; see :func:`cluster.store.manifests.recorded`."""
    path, begun = options.source.resolve(), datetime.now(UTC)
    whole = source.excerpt.source_sha256 if source.excerpt else source.sha256
    manifest = Manifest(
        id=f"{begun:%Y%m%dT%H%M%S}-{source.sha256[:8]}-{os.urandom(2).hex()}",
        state="running",
        started=manifests.utc(begun),
        title=source.sha256[:16],
        source=manifests.Source(path=shown(path), sha256=whole, size=path.stat().st_size),
        options=options.document(),
        weights_sha256=file_sha256(options.weights) if options.weights else None,
        versions=dict(own_fingerprint().parts),
        out=shown(options.out.resolve()),
    )
    return manifests.recorded(store, manifest)


def differences(run: Manifest, other: Manifest) -> list[tuple[str, Any, Any]]:
    """Return what differs between two runs: name, value of the first, value of the second."""
    left, right = _flat(run), _flat(other)
    return [
        (name, left.get(name), right.get(name))
        for name in sorted({*left, *right})
        if left.get(name) != right.get(name)
    ]


def repeated(before: Manifest, options: RunOptions) -> RunOptions:
    """Return ``options`` with everything that decided the package of an earlier run.

    Raises:
        BadInput: the earlier run's source or weights are missing or have changed.
    """
    earlier = LadderOptions.from_document(before.options)
    for what, path, digest in (
        ("source", options.source, before.source.sha256),
        ("weights", earlier.weights, before.weights_sha256),
    ):
        if path is None:
            continue
        if not path.is_file():
            raise BadInput(f"the {what} of run {before.id} is not at {path} any more; name it")
        if file_sha256(path) != digest:
            raise BadInput(f"{path} is not the {what} of run {before.id}: its content differs")
    return options.like(earlier)


def check_repeated(before: Manifest, after: Manifest) -> None:
    """Check that a run made the same package as an earlier one.

    Raises:
        VerificationFailed: the packages differ; the message names the files and what else changed.
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
    why = "; ".join(causes) or "no recorded version or option has changed"
    raise VerificationFailed(
        f"the package differs from that of run {before.id} in {len(changed)} of "
        f"{len(before.files)} files ({', '.join(changed[:3])}): {why}",
        files=changed,
    )


def _flat(manifest: Manifest) -> dict[str, Any]:
    """Return the fields that can be compared, those of nested documents as ``outer.inner``."""
    document = manifest.model_dump(exclude={"id", "started", "ended", "costs"})
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat
