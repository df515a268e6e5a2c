"""What operators meet: full and read-only disks, damaged tables, stopping with listeners."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.service.database import Database
from cluster.service.writable import PROBE_BYTES, Writable
from encoder.errors import StoreUnusable
from tests.service_material import COMMAND, service


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "small"
    mounted.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted)]
    try:
        subprocess.run(asked, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a mounted folder read-only under those who have files of it open."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_service_that_cannot_write_is_not_ready(small_disk: Path) -> None:
    database = Database(small_disk / "service.db")
    now = 0.0
    writable = Writable(database, small_disk, clock=lambda: now)

    def refused() -> str:
        nonlocal now
        now += 1
        with pytest.raises(StoreUnusable) as error:
            writable.check()
        return error.value.message

    writable.check()
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(bytes(PROBE_BYTES // 2))
    assert "No space left on device" in refused()
    assert str(small_disk) in refused()
    ballast.unlink()
    with pytest.raises(StoreUnusable):
        writable.check()  # looked at a moment ago
    now += 1
    writable.check()
    with read_only(small_disk):
        assert "Read-only file system" in refused()
    now += 1
    writable.check()
    with contextlib.closing(sqlite3.connect(small_disk / "service.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in refused()
    assert sorted(path.name for path in small_disk.iterdir() if path.name.startswith(".")) == []
    database.close()


def test_readiness_stopping_with_listeners_and_nothing_left_behind(small_disk: Path) -> None:
    with service(small_disk, slots=1) as one, one.client() as client:
        job = client.submit(one.source("film.json", seconds=60), external_id="film")
        assert httpx.get(f"{one.url}/readyz").status_code == 200
        with read_only(small_disk):
            time.sleep(1)
            answer = httpx.get(f"{one.url}/readyz")
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:shotladder:problem:not-writable"
        assert "Read-only file system" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        time.sleep(1)
        assert httpx.get(f"{one.url}/readyz").status_code == 200

        address = "127.0.0.1", int(one.url.rpartition(":")[2])
        with contextlib.ExitStack() as streams:
            listeners = []
            for _ in range(30):
                listener = streams.enter_context(socket.create_connection(address, 30))
                listener.sendall(b"GET /v1/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                 % job.id.encode())  # fmt: skip
                assert listener.recv(15) == b"HTTP/1.1 200 OK"
                listeners.append(listener)
            began = time.monotonic()
            assert one.process is not None
            one.process.terminate()
            for listener in listeners:
                heard = b""
                while data := listener.recv(65536):
                    heard += data
                assert heard.endswith(b"0\r\n\r\n")  # a whole answer, not a broken one
            assert time.monotonic() - began < 4
        assert one.stop() == 0
        for line in one.log().splitlines():
            assert json.loads(line)["level"] in ("info", "warning"), line
            assert "Cancel" not in line


# -- damaged tables ----------------------------------------------------------------------------


def tables_in(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "service.db"
    Database(path).close()
    return path


def one_line(path: Path) -> str:
    with pytest.raises(StoreUnusable) as error:
        Database(path)
    assert "\n" not in error.value.message
    return error.value.message


def test_damaged_and_newer_tables_are_one_line(tmp_path: Path) -> None:
    garbage = tables_in(tmp_path / "garbage")
    garbage.write_bytes(b"this is no database" * 1000)
    assert "are damaged (file is not a database)" in one_line(garbage)
    short = tables_in(tmp_path / "short")
    short.write_bytes(short.read_bytes()[: short.stat().st_size // 2])
    assert "are damaged (" in one_line(short)
    holed = tables_in(tmp_path / "holed")
    content = bytearray(holed.read_bytes())
    content[8192 : 8192 + 12_288] = b"\x55" * 12_288
    holed.write_bytes(content)
    assert "restore the file from a backup" in one_line(holed)
    newer = tables_in(tmp_path / "newer")
    with contextlib.closing(sqlite3.connect(newer)) as database, database:
        database.execute("update alembic_version set version_num = 'v9999'")
    assert "of a newer release (schema v9999" in one_line(newer)
    folder = tmp_path / "folder"
    (folder / "service.db").mkdir(parents=True)
    assert "cannot be used now (unable to open database file)" in one_line(folder / "service.db")


def test_the_service_ends_with_that_line(tmp_path: Path) -> None:
    path = tables_in(tmp_path / "data")
    path.write_bytes(b"this is no database" * 1000)
    for line in (("serve", "--port", "0"), ("runner",)):
        ended = subprocess.run(
            [sys.executable, *COMMAND, *line, "--data", str(path.parent)],
            capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        assert ended.returncode not in (0, 120), ended
        assert ended.stdout == ""
        (said,) = ended.stderr.strip().splitlines()
        assert f"the tables in {path} are damaged" in said
