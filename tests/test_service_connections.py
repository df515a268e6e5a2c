"""Connections of the service: who gets a port, and what a stranger's connections may cost."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.service_material import COMMAND, ROOT


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_of_two_services_started_at_once_on_one_port_one_says_that_it_cannot(
    tmp_path: Path,
) -> None:
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, *COMMAND, "serve", "--data", str(tmp_path / name), "--jobs", "0",
             "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    try:
        # A service that has the port prints its URL; one that has not closes its output.
        urls = [process.stdout.readline() for process in started if process.stdout is not None]
        assert sorted(urls) == ["", f"http://127.0.0.1:{port}\n"]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        loser = started[urls.index("")]
        assert loser.wait(20) == 2
        assert loser.stderr is not None
        (line,) = loser.stderr.read().splitlines()
        assert f"cannot listen at 127.0.0.1:{port}" in line
        assert "give another --port" in line
    finally:
        for process in started:
            process.terminate()
            process.communicate(timeout=20)


def test_the_url_is_printed_when_connections_are_taken(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *COMMAND, "serve", "--data", str(tmp_path / "one"), "--jobs", "0",
         "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ready, _, _ = select.select([one], [], [], 5)
            assert ready
            assert one.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        process.terminate()
        process.communicate(timeout=20)
