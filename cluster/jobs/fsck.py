"""Checking what a store holds of its titles against the titles themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.stages.provenance import check_provenance
from cluster.stages.title import open_title
from cluster.store import Store
from cluster.store.garbage import Flaw


def check_titles(
    store: Store, sources: Sequence[Path] = (), *, repair: bool = False
) -> Iterator[Flaw]:
    """Yield the records that were made of another film than their title's.

    Args:
        store: Store to look at.
        sources: Sources whose titles are compared with the source itself.
        repair: Remove all records of such a title.

    Raises:
        SourceUnusable: a source cannot be read.
    """
    with store.scratch() as workdir:
        opened = []
        for number, path in enumerate(sources):
            folder = workdir / str(number)
            folder.mkdir()
            opened.append(open_title(path, folder))
        yield from check_provenance(store, opened, repair=repair)
