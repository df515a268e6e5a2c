"""A real HTTP server that speaks S3, in a process of its own, for the tests of remote stores."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_material import free_port, kill_tree, until

REGION = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Newer botocores ask for checksums that other servers than Amazon's do not all know.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


class S3Server:
    """A server of moto."""

    def __init__(self, log: Path, host: str = "127.0.0.1") -> None:
        self.host, self.port, self.log = host, free_port(), log
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**REGION, "AWS_ENDPOINT_URL": self.endpoint}

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", self.host, "-p", str(self.port)],
                stdout=log,
                stderr=log,
                text=True,
            )

    def bucket(self, name: str) -> str:
        """Create a bucket and return its URL."""
        import urllib.request

        def made() -> bool:
            with contextlib.suppress(OSError):
                asked = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    return bool(answer.status == 200)
            return False

        until(made, 120)
        return f"s3://{name}"


@contextlib.contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[S3Server]:
    server = S3Server(folder / "s3.log", host)
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    from cluster.store.objects import filesystem

    filesystem.cache_clear()
    try:
        yield server
    finally:
        filesystem.cache_clear()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        kill_tree(server.process)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("moto.server", reason="moto is not installed")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
