"""Who may take part in a cluster: strangers at a run's own workers; certificates of shared ones."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from distributed.comm.core import connect
from distributed.security import Security

from cluster.cli import main
from cluster.execution.executor import DaskExecutor, SharedScheduler, Task
from cluster.execution.security import Certificates
from encoder.errors import BadInput
from tests.cluster_material import COMMAND, REPOSITORY, free_port, kill_tree, until

RECIPE = (
    (REPOSITORY / "docs" / "operations.md").read_text().split("### Certificates of a cluster")[1]
)
OPENSSL, COMMANDS = re.findall(r"```\n(.*?)```", RECIPE, re.DOTALL)[:2]


def opened(address: str, **arguments: Any) -> bool:
    """Tell whether a Dask process takes a connection, and so what it is sent."""

    async def attempt() -> None:
        comm = await connect(address, timeout=3, **arguments)
        comm.abort()

    try:
        asyncio.run(asyncio.wait_for(attempt(), 10))
    except (OSError, ValueError, TypeError):
        return False
    return True


def listening(process: psutil.Process) -> set[int]:
    """Ports on which a process and its descendants listen."""
    family = [process, *process.children(recursive=True)]
    return {
        connection.laddr.port
        for one in family
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_a_stranger_cannot_connect_to_a_running_job() -> None:
    before = listening(psutil.Process())
    with DaskExecutor(workers=1) as executor:
        outcomes = list(executor.run([Task("eight", pow, (2, 3))]))
        assert [outcome.result for outcome in outcomes] == [8]
        cluster = executor.local_cluster
        workers = list(cluster.scheduler_info["workers"].values())
        nannies = [worker["nanny"] for worker in workers]
        addresses = [cluster.scheduler_address, *cluster.scheduler_info["workers"], *nannies]
        assert len(addresses) == 3
        ports = listening(psutil.Process()) - before
        assert {int(address.rpartition(":")[2]) for address in addresses} <= ports
        stranger = Security.temporary().get_connection_args("client")
        for port in ports:  # also those of Dask's small HTTP servers
            assert not opened(f"tcp://127.0.0.1:{port}"), port
            assert not opened(f"tls://127.0.0.1:{port}", **stranger), port
        for security in (None, Security.temporary()):
            address = cluster.scheduler_address
            with pytest.raises((OSError, ValueError, TypeError)):
                Client(
                    address if security else address.replace("tls:", "tcp:"),
                    security=security, timeout=3, set_as_default=False,
                )  # fmt: skip
        own = cluster.security.get_connection_args("client")
        assert all(opened(address, **own) for address in addresses)


# -- the recipe for shared clusters ------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the OpenSSL commands of docs/operations.md were run as they stand."""
    folder = tmp_path_factory.mktemp("certificates")
    made = subprocess.run(
        ["bash", "-euc", OPENSSL], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        kill_tree(process)


def test_the_recipe_for_a_shared_cluster(
    certificates: Path, started: list[subprocess.Popen[str]], tiny_title: Path, tmp_path: Path
) -> None:
    """The commands of docs/operations.md as they stand, but for address, port and Python."""
    port = free_port()
    words = COMMANDS.replace("10.0.0.1", "127.0.0.1").replace("8786", str(port))
    scheduler, worker, run = re.findall(r"(?:.*\\\n)+.*\n", words)
    assert [one.split()[1] for one in (scheduler, worker, run)] == ["scheduler", "worker", "run"]
    (certificates / "film.mp4").symlink_to(tiny_title)
    shotladder = f"exec {sys.executable} -c '{COMMAND}' "
    log = tmp_path / "log"

    def start(line: str, *more: str) -> subprocess.Popen[str]:
        line = line.strip().replace("shotladder ", shotladder, 1)
        with log.open("a") as err:
            process = subprocess.Popen(
                ["bash", "-c", " ".join([line, *more])], cwd=certificates, text=True,
                stdout=subprocess.PIPE, stderr=err, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY),
                     "SHOTLADDER_STORE": str(tmp_path / "store")},
            )  # fmt: skip
        started.append(process)
        return process

    start(scheduler, "--port", str(port))
    until(lambda: f"scheduler at tls://127.0.0.1:{port}" in log.read_text(), 120)
    assert "can run programs" not in log.read_text()
    start(worker, "--cores", "1", "--scratch", str(tmp_path / "scratch"))
    address = f"tls://127.0.0.1:{port}"
    member = Certificates(*(certificates / name for name in ("ca.pem", "run.pem", "run-key.pem")))
    with DaskExecutor(scheduler=SharedScheduler(address, member)) as executor:
        (outcome,) = executor.run([Task("eight", pow, (2, 3))])
        assert outcome.result == 8
        workers = executor.client.scheduler_info()["workers"]
        ports = {port, *(int(one.rpartition(":")[2]) for one in workers)}
    stranger = Security.temporary().get_connection_args("client")
    for one in ports:
        assert not opened(f"tcp://127.0.0.1:{one}")
        assert not opened(f"tls://127.0.0.1:{one}", **stranger)
    done = start(run, "--plan")
    done.communicate(timeout=240)
    assert done.returncode == 0, log.read_text()[-3000:]


def test_certificates_that_do_not_fit(
    certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def file(name: str) -> Path:
        return certificates / name

    ca, cert, key = file("ca.pem"), file("run.pem"), file("run-key.pem")
    assert Certificates.of(None, None, None) is None
    (tmp_path / "text").write_text("no certificate")
    for files, says in (
        ((ca, cert, None), "belong together"),
        ((ca, cert, tmp_path / "none"), "none cannot be read"),
        ((tmp_path / "text", cert, key), "text is not a certificate"),
        ((ca, cert, file("worker-key.pem")), "not a certificate and its key"),
        ((ca, tmp_path / "text", key), "not a certificate and its key"),
    ):
        with pytest.raises(BadInput, match=says):
            Certificates.of(*files)
    mine = Certificates.of(ca, cert, key)
    with pytest.raises(BadInput, match="it is tls:"):
        SharedScheduler("tcp://10.0.0.1:8786", mine).check()
    with pytest.raises(BadInput, match="looks like"):
        SharedScheduler("10.0.0.1:8786").check()
    line = ["--tls-ca", str(ca), "--tls-cert", str(cert)]
    for command in (
        ["scheduler", *line], ["worker", "tls://127.0.0.1:1", *line],
        ["run", "x.mp4", "--out", str(tmp_path / "o"), "--scheduler", "tls://127.0.0.1:1", *line],
        ["serve", "--data", str(tmp_path / "d"), "--scheduler", "tls://127.0.0.1:1", *line],
    ):  # fmt: skip
        assert main(command) == 2
        assert "--tls-key belong together" in capsys.readouterr().err


def test_a_scheduler_without_certificates_says_what_that_means(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    from tests.cluster_material import command

    log = tmp_path / "log"
    started.append(command("scheduler", "--port", free_port(), log=log))
    until(lambda: log.exists() and "scheduler at tcp://" in log.read_text(), 120)
    assert "whoever reaches 127.0.0.1 can run programs" in log.read_text()
