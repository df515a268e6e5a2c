"""Rows of finished packages: everything that a run measured, by each cell's own recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster import events
from cluster.package.package import Package
from cluster.stages.analysis import extract_features, find_features, find_shots
from cluster.store import Store, open_store
from cluster.training.catalog import group_of, read_groups
from cluster.training.rows import TrainingTitle, check_standard_range
from cluster.training.table import Row, add_rows
from encoder.errors import BadInput
from encoder.media import Request
from vmaf.sampled import step_of


def add_packages(
    directories: Sequence[Path],
    table: Path,
    on_event: events.Listener,
    *,
    catalog: Path | None = None,
    source: Path | None = None,
    store: Path | str | None = None,
) -> int:
    """Add the measurements of finished packages to a table; return its number of rows.

    Args:
        directories: Folders that ``run`` wrote.
        table: File of the table; it is made if missing.
        on_event: Receives progress.
        catalog: CSV file with the columns ``file`` and ``group``.
        source: Path of the source, if it is not where the run found it (for one package).
        store: Store in which features are looked up and kept.

    Raises:
        BadInput: a folder holds no package, or its source is missing or has other content.
    """
    groups = read_groups(catalog)
    opened = open_store(store)
    count = 0
    on_event(events.StagePlanned("packages", len(directories), unit="packages"))
    for number, directory in enumerate(directories, 1):
        package = Package.open(directory)
        path = source or package.source_path
        with opened.scratch() as workdir:
            rows = package_rows(package, path, group_of(path, groups), opened, workdir)
        count = add_rows(table, rows)
        on_event(events.StageProgress("packages", number, len(directories)))
    return count


def package_rows(
    package: Package, path: Path, group: str, store: Store, workdir: Path
) -> list[Row]:
    """Return the rows of one package: every cell of ``measurements.json``.

    Delivered cells have the scores by further quality models too. A package does not tell how much
    CPU time its encodes took.

    Raises:
        BadInput: the source is missing or has other content or high dynamic range.
    """
    if (every := step_of(package.quality_model)) > 1:
        raise BadInput(
            f"{package.directory} was measured on one frame in {every}; tables take scores of "
            "every frame, so leave it out or run the title again without --measure-every"
        )
    source = package.open_source(workdir, path)
    check_standard_range(path, source)
    shots = package.shots
    if shots == find_shots(source, store.place):
        features = find_features(source, store.place)
    else:  # The run was of a version that detects other shots.
        features = extract_features(source, shots)
    title = TrainingTitle(group, path.name, "", source, shots, features)
    delivered = _delivered_quality(package)
    return [
        title.row(
            request,
            bits=8 * cell.bytes,
            quality={**delivered.get(request, {}), package.quality_model: cell.quality},
            encode_cpu_seconds=None,
            tool=package.ladder.tool,
        )
        for request, cell in package.cells().items()
    ]


def _delivered_quality(package: Package) -> dict[Request, dict[str, float]]:
    """Return the quality of the delivered segments by every model that scored them."""
    return {
        request: dict(segment.quality)
        for rung in package.ladder.rungs
        for request, segment in zip(package.requests(rung), rung.segments, strict=True)
    }
