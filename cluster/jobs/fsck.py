"""Checking what a store holds of its titles against the titles themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.stages.provenance import TitleCheck, check_provenance
from cluster.stages.readings import Readings
from cluster.store import Store
from cluster.store.manifests import list_runs


def check_titles(
    store: Store, sources: Sequence[Path] = (), *, repair: bool = False
) -> Iterator[TitleCheck]:
    """Yield the titles with records that were made of another film, or that cannot be judged.

    Args:
        store: Store to look at.
        sources: Sources whose titles are compared with the source itself.
        repair: Remove all records of a title that has a record of another film.

    Raises:
        SourceUnusable: a source cannot be read.
    """
    runs = list_runs(store)
    with store.scratch() as workdir:
        opened = []
        for number, path in enumerate(sources):
            folder = workdir / str(number)
            folder.mkdir()
            opened.append(Readings.of(path, runs, folder))
        yield from check_provenance(store, runs, opened, repair=repair)
