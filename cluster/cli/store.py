"""Commands about a store: ``runs``, the runs that it remembers, and ``store``, its upkeep."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import StorePath
from cluster.cli.output import Output

runs_app = typer.Typer(name="runs", help="Look at the runs that a store remembers.")
store_app = typer.Typer(name="store", help="Clean up and check a store.")

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, the beginning of an id, or `latest`.")
]


@runs_app.command("list")
@command
def list_runs(output: Output, store: StorePath = None) -> None:
    """List the runs of a store, oldest first."""
    from cluster.cli.views.store import runs_view
    from cluster.store import manifests
    from cluster.store.place import open_existing_store

    runs = manifests.list_runs(open_existing_store(store))
    output.finish(
        lines=[
            (
                "run",
                {
                    "run": run.id,
                    "state": run.state,
                    "title": run.title,
                    "search": run.options.get("search"),
                    "rungs": run.rungs or "",
                    "source": run.source.path,
                },
            )
            for run in runs
        ],
        result={"runs": len(runs)},
        view=lambda: runs_view(runs),
    )


@runs_app.command("show")
@command
def show_run(output: Output, run: Run, store: StorePath = None) -> None:
    """Show what is remembered of a run: inputs, versions, results; all of it with `--json`."""
    from cluster.cli.views.store import run_view
    from cluster.store import manifests
    from cluster.store.place import open_existing_store

    manifest = manifests.find_run(open_existing_store(store), run)
    output.finish(
        lines=[("manifest", manifest.model_dump())],
        result={"run": manifest.id},
        view=lambda: run_view(manifest),
    )


@runs_app.command("diff")
@command
def diff_runs(
    output: Output,
    run: Run,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run.")],
    store: StorePath = None,
) -> None:
    """Show in what two runs differ: sources, options, versions, files."""
    from cluster.cli.views.store import difference_view
    from cluster.jobs.history import differences as changes
    from cluster.store import manifests
    from cluster.store.place import open_existing_store

    opened = open_existing_store(store)
    first, second = manifests.find_run(opened, run), manifests.find_run(opened, other)
    differences = changes(first, second)
    output.finish(
        lines=[("difference", {"what": w, "run": a, "other": b}) for w, a, b in differences],
        result={"differences": len(differences), "same_package": first.package == second.package},
        view=lambda: (
            difference_view(first.id, second.id, differences)
            if differences
            else "the two runs do not differ"
        ),
    )


@runs_app.command("remove")
@command
def remove_run(output: Output, run: Run, store: StorePath = None) -> None:
    """Forget a run, so that `store gc` may remove what only this run needs."""
    from cluster.store import manifests
    from cluster.store.place import open_existing_store

    manifest = manifests.remove_run(open_existing_store(store), run)
    output.finish(result={"run": manifest.id}, view=lambda: f"forgot {manifest.id}")


@store_app.command("gc")
@command
def gc(
    output: Output,
    days: float = option(7.0, metavar="N", min=0, help="Keep everything younger than N days."),
    dry_run: bool = option(False, "--dry-run", help="Only show what would be removed."),
    store: StorePath = None,
) -> None:
    """Remove what no remembered run and no running run needs."""
    from cluster.store.garbage import collect_garbage
    from cluster.store.place import open_existing_store

    done = collect_garbage(open_existing_store(store), keep_seconds=days * 86_400, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    output.finish(
        result=asdict(done),
        view=lambda: (
            f"{verb} {done.records} records and {done.blobs} blobs, {done.bytes / 1e6:.1f} MB; "
            f"kept {done.kept_records} records, {done.kept_bytes / 1e6:.1f} MB"
        ),
    )


@store_app.command("fsck")
@command
def fsck(
    output: Output,
    repair: bool = option(
        False, "--repair", help="Remove damaged entries; later runs make them again."
    ),
    source: tuple[Path, ...] = option(
        (),
        metavar="FILE",
        help="Compare what the store holds of this source with it. May be repeated.",
    ),
    store: StorePath = None,
) -> None:
    """Read everything in a store and compare it with its digest and with its title.

    Encodes that show another film than their title, because the source was replaced while a run of
    an older release worked, are found by comparing them with the title's thumbnails; with
    `--source`, none is missed. `--repair` then removes everything of that title.
    """
    from cluster.cli.views.store import check_view
    from cluster.jobs.fsck import check_titles
    from cluster.store.garbage import check_store
    from cluster.store.place import open_existing_store
    from encoder.errors import StoreUnusable

    opened = open_existing_store(store)
    flaws = list(check_store(opened, repair=repair))
    titles = list(check_titles(opened, source, repair=repair))
    foreign = [each for title in titles for each in title.foreign]
    notes = [(title.title, title.note) for title in titles if title.note]
    if not output.as_json:
        for flaw in flaws:
            print(f"{flaw.name}: {flaw.what}")
        for entry in foreign:
            print(f"{entry.name}: {entry.what}")
        for name, note in notes:
            print(f"title {name}: {note}")
    removed = sum(title.removed for title in titles)
    said = f"{opened.place}: {check_view(len(flaws), len(foreign), removed, repair)}"
    if (flaws or foreign) and not repair:
        raise StoreUnusable(
            f"{said}; --repair removes them, and runs make them again",
            flaws=[asdict(each) for each in flaws],
            foreign=[asdict(each) for each in foreign],
        )
    output.finish(
        lines=[
            *(("flaw", asdict(each)) for each in flaws),
            *(("foreign", asdict(each)) for each in foreign),
            *(("note", {"title": name, "note": note}) for name, note in notes),
        ],
        result={"flaws": len(flaws), "foreign": len(foreign), "removed": removed},
        view=lambda: said,
    )


@store_app.command("titles")
@command
def titles(output: Output, store: StorePath = None) -> None:
    """Show the size of each title in a store, largest first."""
    from cluster.cli.views.store import titles_view
    from cluster.store import manifests
    from cluster.store.garbage import title_sizes
    from cluster.store.place import open_existing_store

    opened = open_existing_store(store)
    sizes = title_sizes(opened)
    names = {run.title: Path(run.source.path).name for run in manifests.list_runs(opened)}
    output.finish(
        lines=[("title", asdict(size)) for size in sizes],
        result={"titles": len(sizes), "bytes": sum(size.bytes for size in sizes)},
        view=lambda: titles_view(sizes, names),
    )
