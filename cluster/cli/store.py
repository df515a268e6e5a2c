"""Commands that look at a store and its runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cluster.cli.options import Json, StorePath
from cluster.cli.output import finish

runs_app = typer.Typer(name="runs", help="Look at the runs that a store remembers.")
store_app = typer.Typer(name="store", help="Keep a store in order.")

Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id or how that begins, or `latest`.")]


def _table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    from rich.table import Table

    from cluster.cli.output import show

    table = Table(box=None, pad_edge=False)
    for column in columns:  # the first names the row: to be copied
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*map(str, row))
    show([table])


@runs_app.command("list")
def list_runs(context: typer.Context, store: StorePath = None, json: Json = False) -> None:
    """List the runs of a store: the oldest first."""
    from cluster.store import manifests, open_store

    found = manifests.list_runs(open_store(store))
    rows = [
        (one.id, one.state, one.title, one.options.get("search"), one.rungs or "", one.source.path)
        for one in found
    ]
    names = ("run", "state", "title", "search", "rungs", "source")
    finish(
        context.obj,
        as_json=json,
        lines=[("run", dict(zip(names, row, strict=True))) for row in rows],
        result={"runs": len(found)},
        view=lambda: _table(names, rows),
    )


@runs_app.command("show")
def show_run(context: typer.Context, run: Run, store: StorePath = None, json: Json = False) -> None:
    """Show all that is remembered of a run: inputs, versions, results."""
    from cluster.store import manifests, open_store

    found = manifests.find_run(open_store(store), run)
    finish(
        context.obj,
        as_json=json,
        lines=[("manifest", found.model_dump())],
        result={"run": found.id},
        view=lambda: print(found.to_json().decode(), end=""),
    )


@runs_app.command("diff")
def diff_runs(
    context: typer.Context,
    run: Run,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run.")],
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Say what two runs do not have in common: sources, options, versions, files."""
    from cluster.jobs.history import differences
    from cluster.store import manifests, open_store

    opened = open_store(store)
    one, two = manifests.find_run(opened, run), manifests.find_run(opened, other)
    found = differences(one, two)
    finish(
        context.obj,
        as_json=json,
        lines=[("difference", {"what": w, "run": a, "other": b}) for w, a, b in found],
        result={"differences": len(found), "same_package": one.package == two.package},
        view=lambda: (
            _table(("what", one.id, two.id), found)
            if found
            else print("they have everything in common")
        ),
    )


@runs_app.command("remove")
def remove_run(
    context: typer.Context, run: Run, store: StorePath = None, json: Json = False
) -> None:
    """Forget a run: `store gc` may then collect what only it was made of."""
    from cluster.store import manifests, open_store

    found = manifests.remove_run(open_store(store), run)
    finish(
        context.obj,
        as_json=json,
        result={"run": found.id},
        view=lambda: print(f"forgot {found.id}"),
    )


@store_app.command("gc")
def gc(
    context: typer.Context,
    days: Annotated[
        float, typer.Option(metavar="N", help="Keep what is younger, whoever needs it.")
    ] = 7.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Remove what no remembered run was made of, and no running one needs."""
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
        bool, typer.Option("--repair", help="Remove what is damaged: it is made again.")
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
        for flaw in flaws:
            print(f"{flaw['name']}: {flaw['what']}") if not json else None
        raise StoreUnusable(
            f"{len(flaws)} entries of {opened.place} are damaged; --repair removes them, and runs "
            "make them again",
            flaws=flaws,
        )
    lines: list[tuple[str, dict[str, Any]]] = [("flaw", flaw) for flaw in flaws]
    finish(
        context.obj,
        as_json=json,
        lines=lines,
        result={"flaws": len(flaws)},
        view=lambda: print(
            f"{opened.place}: {len(flaws)} damaged entries removed" if flaws else "sound"
        ),
    )


@store_app.command("titles")
def titles(context: typer.Context, store: StorePath = None, json: Json = False) -> None:
    """Say what each title takes in a store: the largest first."""
    from cluster.store import open_store
    from cluster.store.garbage import title_sizes

    found = title_sizes(open_store(store))
    finish(
        context.obj,
        as_json=json,
        lines=[("title", asdict(one)) for one in found],
        result={"titles": len(found), "bytes": sum(one.bytes for one in found)},
        view=lambda: _table(
            ("title", "MB", "records", "blobs", "runs"),
            [
                (one.title or "-", f"{one.bytes / 1e6:.2f}", one.records, one.blobs, one.runs)
                for one in found
            ],
        ),
    )
