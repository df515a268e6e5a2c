"""Runs compared with earlier ones, and repeated."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.execution.fingerprint import own_fingerprint
from cluster.jobs.options import RunOptions
from cluster.stages.title import TitleSource
from cluster.store import Store, file_sha256, manifests
from cluster.store.manifests import Manifest, Recorder
from encoder.errors import BadInput, VerificationFailed


def options_document(options: RunOptions) -> dict[str, Any]:
    """Return the options that decide a package's bits, as JSON."""
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


def recorded(
    options: RunOptions, source: TitleSource, store: Store
) -> contextlib.AbstractContextManager[Recorder]:
    """Keep a manifest of the run inside the block; see :func:`cluster.store.manifests.recorded`."""
    path = options.source.resolve()
    return manifests.recorded(
        store,
        manifests.Source(path=str(path), sha256=source.sha256, size=path.stat().st_size),
        options=options_document(options),
        versions=own_fingerprint().parts,
        out=options.out,
        weights=options.weights,
        face_model=options.face_model,
    )


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
        BadInput: the earlier run's source, weights or face model is missing or has changed.
    """
    earlier = before.options
    weights = Path(earlier["weights"]) if earlier.get("weights") else None
    face_model = Path(earlier["face_model"]) if earlier.get("face_model") else None
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
        search=earlier["search"],
        codec=earlier["codec"],
        preset=earlier["preset"],
        profile=earlier["profile"],
        heights=tuple(earlier["heights"]) if earlier["heights"] else None,
        policy=earlier["policy"],
        also=tuple(earlier["also"]),
        tone_map=earlier.get("tone_map", False),
        weights=weights,
        face_model=face_model,
    )


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
