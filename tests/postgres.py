"""A real PostgreSQL server for tests, from Debian's package, and databases on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cluster.service.backends import KIND
from cluster.service.database import Database

USER = "postgres"
"""User of the server, which refuses to run as root, and of the database."""


def programs() -> Path | None:
    """Return the folder with the newest installed server's programs; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return found[-1].parent if found else None


def _version(path: Path) -> int:
    return int(path.parts[-3])


class Server:
    """A server in a folder of its own, asked over a socket in that folder."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder

    def run(self, program: str, *words: object) -> str:
        """Run one of the server's programs as its user; return what it says."""
        as_user = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [self._bin / program, *map(str, words)],
            cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
            **as_user,  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=300"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", self.folder / "data", "-l", log, "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def sql(self, statement: str, database: str = "postgres") -> str:
        where = ("-h", self.folder, "-U", USER, "-d", database)
        return self.run("psql", *where, "-X", "-A", "-t", "-c", statement).strip()

    def new_database(self) -> str:
        """Return the URL of an empty database, which is a schema of its own: to create and remove
        one takes a hundredth of the time."""
        name = f"t{uuid.uuid4().hex}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"postgresql://{USER}@/{USER}?host={self.folder}&options=-csearch_path%3D{name}"


@contextmanager
def server() -> Iterator[Server]:
    """Run a server; skip the test where none is installed."""
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: install Debian's package `postgresql`")
    # Not below pytest's folder, whose path is too long for a socket and closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        one = Server(folder, bin_folder)
        words = ("-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        one.run("initdb", *words, "--locale=C.UTF-8")
        one.start()
        try:
            yield one
        finally:
            one.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database_url(wanted: bool) -> Iterator[str | None]:
    """Give the URL of a new database on a server of its own; None unless it is wanted."""
    if not wanted:
        yield None
        return
    with server() as one:
        yield one.new_database()


def sql(database: Database, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Run a statement with ``:name`` parameters in a transaction; return the rows."""
    with database.engine.execution_options(**{KIND: "write"}).begin() as connection:
        result = connection.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []
