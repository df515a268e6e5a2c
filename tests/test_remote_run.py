"""A whole run without a shared disk: workers that see neither the source nor the client's files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cluster.jobs.run import RunResult
from cluster.store import open_store
from cluster.store.local import shared
from cluster.store.manifests import find_run, list_runs
from cluster.store.remote import RemoteStore
from fixtures.clips import make
from ladder.profiles import Profile
from tests.cluster_material import command, kill_tree, loaded, site
from tests.running import SMALL, SmallRun, contents, quick_profile, run_inline
from tests.s3_material import S3Server, s3

__all__ = ["s3"]

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture
def profile() -> Profile:
    return quick_profile()


def run_remote(source: Path, out: Path, url: str, profile: Profile) -> RunResult:
    return run_inline(source, out, url, profile=profile, heights=(90,))  # type: ignore[arg-type]


def test_a_remote_store_gives_the_package_of_a_local_one(
    s3: S3Server, tmp_path: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOTLADDER_CACHE", str(tmp_path / "cache"))
    source = make(SMALL, tmp_path / "title.mp4")
    local = run_inline(source, tmp_path / "a", tmp_path / "store", profile=profile, heights=(90,))
    url = s3.bucket("run") + "/store"
    made = run_remote(source, tmp_path / "b", url, profile)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    assert made.run["encoded_now"] == local.run["encoded_now"] > 0

    # What was damaged in the bucket is made again, in the same run.
    store = open_store(url)
    assert isinstance(store, RemoteStore)
    blobs = sorted(store.objects.list("blobs"), key=lambda one: one.size)
    media = [one for one in blobs if 1000 < one.size < 50_000][-2:]
    store.objects.replace(media[0].name, b"x" * media[0].size)
    store.objects.replace(media[1].name, b"short")
    store.close()
    shared.cache_clear()
    monkeypatch.setenv("SHOTLADDER_CACHE", str(tmp_path / "cache-2"))
    again = run_remote(source, tmp_path / "c", url, profile)
    assert contents(tmp_path / "c") == contents(tmp_path / "a")
    assert again.run["encoded_now"] <= 2
    assert [one.state for one in list_runs(open_store(url))] == ["finished", "finished"]
    assert find_run(open_store(url), "latest").package == list_runs(open_store(url))[0].package
    shared.cache_clear()


def test_workers_that_see_no_source(s3: S3Server, small_run: SmallRun, tmp_path: Path) -> None:
    """The source is deleted from under them: a worker that opened it would fail."""
    (tmp_path / "client").mkdir()
    source = shutil.copy(small_run.source, tmp_path / "client" / "title.mp4")
    url = s3.bucket("cluster") + "/store"
    environment = {**s3.environment, "SHOTLADDER_CACHE": str(tmp_path / "cache")}
    with site(tmp_path / "site", workers=0) as made:
        # Workers in a mount namespace of their own, where the client's folder is empty.
        if os.geteuid() == 0:
            hidden = f'mount -t tmpfs none {tmp_path}/client && exec "$@"'
            prefix = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", hidden, "sh")
        else:
            pytest.skip("hiding files from workers takes root")
        for number in range(2):
            place = str(tmp_path / f"worker-{number}")
            made.start_worker(prefix=prefix, **{**environment, "SHOTLADDER_CACHE": place})
        words = ["run", source, "--out", tmp_path / "b", "--store", url, "--preset", "ultrafast"]
        words += ["--heights", "90", "--recipe-check", "never"]
        words += ["--scheduler", made.address, "--json"]
        process = command(*words, **environment)
        said, complaints = process.communicate(timeout=280 * loaded())
        kill_tree(process)
    assert process.returncode == 0, said[-2000:] + complaints[-2000:]
    run = json.loads(said.splitlines()[-1])["result"]["run"]
    assert run["encoded_now"] == small_run.result.run["encoded_now"]
    assert contents(tmp_path / "b") == contents(small_run.out)
