"""Commands about a store: ``runs``, the runs that it remembers, and ``store``, its upkeep."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.options import Json, StorePath
from cluster.cli.output import finish, show

runs_app = typer.Typer(name="runs", help="Look at the runs that a store remembers.")
store_app = typer.Typer(name="store", help="Clean up and check a store.")

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run, the beginning of an id, or `latest`.")
]


@runs_app.command("list")
def list_runs(context: typer.Context, store: StorePath = None, json: Json = False) -> None:
    """List the runs of a store, oldest first."""
    from cluster.cli.views.store import runs_view
    from cluster.store import manifests, open_store

    runs = manifests.list_runs(open_store(store))
    finish(
        context.obj,
        as_json=json,
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
        view=lambda: show(runs_view(runs)),
    )


@runs_app.command("show")
def show_run(context: typer.Context, run: Run, store: StorePath = None, json: Json = False) -> None:
    """Show what is remembered of a run: inputs, versions, results."""
    from cluster.store import manifests, open_store

    manifest = manifests.find_run(open_store(store), run)
    finish(
        context.obj,
        as_json=json,
        lines=[("manifest", manifest.model_dump())],
        result={"run": manifest.id},
        view=lambda: print(manifest.to_json().decode(), end=""),
    )


@runs_app.command("diff")
def diff_runs(
    context: typer.Context,
    run: Run,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run.")],
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Show in what two runs differ: sources, options, versions, files."""
    from cluster.cli.views.store import difference_view
    from cluster.jobs.history import differences as changes
    from cluster.store import manifests, open_store

    opened = open_store(store)
    first, second = manifests.find_run(opened, run), manifests.find_run(opened, other)
    differences = changes(first, second)
    finish(
        context.obj,
        as_json=json,
        lines=[("difference", {"what": w, "run": a, "other": b}) for w, a, b in differences],
        result={"differences": len(differences), "same_package": first.package == second.package},
        view=lambda: (
            show(difference_view(first.id, second.id, differences))
            if differences
            else print("the two runs do not differ")
        ),
    )


@runs_app.command("remove")
def remove_run(
    context: typer.Context, run: Run, store: StorePath = None, json: Json = False
) -> None:
    """Forget a run, so that `store gc` may remove what only this run needs."""
    from cluster.store import manifests, open_store

    manifest = manifests.remove_run(open_store(store), run)
    finish(
        context.obj,
        as_json=json,
        result={"run": manifest.id},
        view=lambda: print(f"forgot {manifest.id}"),
    )


@store_app.command("gc")
def gc(
    context: typer.Context,
    days: Annotated[
        float, typer.Option(metavar="N", help="Keep everything younger than N days.")
    ] = 7.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Remove what no remembered run and no running run needs."""
    from cluster.store import open_store
    from cluster.store.garbage import collect_garbage

    done = collect_garbage(open_store(store), keep_seconds=days * 86_400, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    finish(
        context.obj,
        as_json=json,
        result=asdict(done),
        view=lambda: print(
            f"{verb} {done.records} records and {done.blobs} blobs, {done.bytes / 1e6:.1f} MB; "
            f"kept {done.kept_records} records, {done.kept_bytes / 1e6:.1f} MB"
        ),
    )


@store_app.command("fsck")
def fsck(
    context: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged entries; later runs make them again.")
    ] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Read everything in a store and compare it with its digest."""
    from cluster.store import open_store
    from cluster.store.garbage import check_store
    from encoder.errors import StoreUnusable

    opened = open_store(store)
    flaws = [asdict(flaw) for flaw in check_store(opened, repair=repair)]
    if flaws and not repair:
        if not json:
            for flaw in flaws:
                print(f"{flaw['name']}: {flaw['what']}")
        raise StoreUnusable(
            f"{len(flaws)} entries of {opened.place} are damaged; --repair removes them, and runs "
            "make them again",
            flaws=flaws,
        )
    finish(
        context.obj,
        as_json=json,
        lines=[("flaw", flaw) for flaw in flaws],
        result={"flaws": len(flaws)},
        view=lambda: print(
            f"{opened.place}: {len(flaws)} damaged entries removed"
            if flaws
            else f"{opened.place}: no damaged entries"
        ),
    )


@store_app.command("titles")
def titles(context: typer.Context, store: StorePath = None, json: Json = False) -> None:
    """Show the size of each title in a store, largest first."""
    from cluster.cli.views.store import titles_view
    from cluster.store import open_store
    from cluster.store.garbage import title_sizes

    sizes = title_sizes(open_store(store))
    finish(
        context.obj,
        as_json=json,
        lines=[("title", asdict(size)) for size in sizes],
        result={"titles": len(sizes), "bytes": sum(size.bytes for size in sizes)},
        view=lambda: show(titles_view(sizes)),
    )
