"""Manifests of runs, comparing and repeating runs, and the garbage collector."""

from __future__ import annotations

import json
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.jobs import history
from cluster.jobs.history import recorded
from cluster.jobs.request import LadderOptions, RunOptions
from cluster.package.package import Package
from cluster.stages.title import TitleSource
from cluster.store import Store, manifests
from cluster.store.garbage import check_store, collect_garbage, title_sizes
from cluster.store.keys import key
from cluster.store.manifests import Manifest
from encoder.errors import BadInput, VerificationFailed
from fixtures.clips import make
from ladder.profiles import load_profile
from tests.running import SHORT, contents, quick_profile, run_inline

WEEK = 7 * 86_400


def title_of(digit: str) -> TitleSource:
    return TitleSource(reference=None, sha256=digit * 64)  # type: ignore[arg-type]


def options(folder: Path) -> RunOptions:
    source = folder / "title.mp4"
    source.write_bytes(b"media")
    return RunOptions(source, folder / "out")


def publish(store: Store, name: str, title: TitleSource, content: bytes | None = None) -> str:
    identity = key("test", 1, name=name)
    blob = store.put_blob(content or name.encode())
    store.publish(identity, name, {"it": blob}, stage="encode", version=1, title=title.id)
    return identity


def age(store: Store, seconds: float) -> None:
    """Make all blobs and records look older."""
    then = time.time() - seconds
    for folder in ("blobs", "records"):
        for path in (store.root / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))


def a_run(folder: Path, store: Store, title: TitleSource, keys: list[str]) -> Manifest:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / "ladder.json").write_text("{}")
    with recorded(options(folder), title, store) as record:
        record.keys.update(keys)
        record.finish(out, 3, {"encoded_now": 1})
    return record.manifest


def test_how_a_run_ended_is_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a_run(tmp_path, store, title_of("a"), [key("test", 1)])
    with pytest.raises(BadInput), recorded(options(tmp_path), title_of("b"), store):
        raise BadInput("no such thing; ask for another")
    with pytest.raises(KeyboardInterrupt), recorded(options(tmp_path), title_of("c"), store):
        raise KeyboardInterrupt
    found = manifests.list_runs(store)
    assert [one.state for one in found] == ["finished", "failed", "interrupted"]
    assert found[1].error == "no such thing; ask for another"
    assert found[0].files.keys() == {"ladder.json"}
    assert found[0].rungs == 3
    assert found[0].versions["code"]
    assert manifests.find_run(store, "latest") == found[0]
    assert manifests.find_run(store, found[2].id) == found[2]
    with pytest.raises(BadInput, match="no run begins"):
        manifests.find_run(store, "nonsense")


def test_a_run_that_was_killed_is_interrupted(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with recorded(options(tmp_path), title_of("a"), store) as record:
        assert [one.state for one in manifests.list_runs(store)] == ["running"]
        path = store.root / "runs" / f"{record.manifest.id}.json"
        then = time.time() - manifests.ALIVE_SECONDS - 60
        os.utime(path, (then, then))
        assert [one.state for one in manifests.list_runs(store)] == ["interrupted"]
        record.save()  # it was only slow
        assert [one.state for one in manifests.list_runs(store)] == ["running"]


def test_garbage_is_what_no_run_needs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    needed = publish(store, "needed", title_of("a"))
    shared = b"the same bytes"
    also = publish(store, "also", title_of("a"), shared)
    probe = publish(store, "probe", title_of("a"))
    other = publish(store, "other", title_of("b"), shared)
    orphan = store.put_blob(b"nobody's")
    run = a_run(tmp_path, store, title_of("a"), [needed, also])

    assert collect_garbage(store).records == 0  # all of it is young
    age(store, WEEK + 60)
    young = publish(store, "young", title_of("b"))
    would = collect_garbage(store, dry_run=True)
    assert (would.records, would.blobs) == (2, 2)
    assert store.get(probe) is not None
    assert collect_garbage(store) == would
    assert store.get(probe) is None
    assert store.get(other) is None
    assert store.find(orphan) is None
    assert all(store.get(one) is not None for one in (needed, also, young))
    assert collect_garbage(store).records == 0

    manifests.remove_run(store, run.id)
    assert collect_garbage(store).records == 2
    assert store.get(needed) is None


def test_what_a_running_title_may_need_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    mine = publish(store, "mine", title_of("a"))
    others = publish(store, "others", title_of("b"))
    nobodys = key("test", 1, name="nobodys")
    store.publish(nobodys, 1, stage="test", version=1)
    age(store, WEEK + 60)
    with recorded(options(tmp_path), title_of("a"), store):
        collect_garbage(store)
        assert store.get(mine) is not None
        assert store.get(nobodys) is not None
        assert store.get(others) is None
        with pytest.raises(BadInput, match="is running"):
            manifests.remove_run(store, manifests.list_runs(store)[0].id)


def test_fsck_names_what_is_damaged_and_removes_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    identities = [publish(store, name, title_of("a")) for name in ("one", "two", "three", "four")]
    assert list(check_store(store)) == []

    def blob_path(name: str) -> Path:
        blob = store.put_blob(name.encode())
        return store.root / "blobs" / blob.sha256[:2] / blob.sha256

    blob_path("one").write_bytes(b"another")
    blob_path("two").unlink()
    record = store.root / "records" / identities[2][:2] / f"{identities[2]}.json"
    record.write_bytes(record.read_bytes()[:-5])
    found = sorted(flaw.what for flaw in check_store(store))
    assert found == [
        "blob of it is missing",
        "blob of it is missing",
        "content does not match its SHA-256",
        "record is damaged",
    ]
    assert len(list(check_store(store, repair=True))) == 4
    assert list(check_store(store)) == []
    assert Store(store.root).get(identities[3]) is not None
    assert publish(store, "one", title_of("a")) == identities[0]


def test_titles_say_what_they_take(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    publish(store, "big", title_of("b"), b"x" * 50_000)
    publish(store, "small", title_of("a"))
    a_run(tmp_path, store, title_of("a"), [])
    found = title_sizes(store)
    assert [(one.title, one.records, one.blobs, one.runs) for one in found] == [
        ("b" * 16, 1, 1, 0),
        ("a" * 16, 1, 1, 1),
    ]
    assert found[0].bytes > 50_000


def test_old_records_without_a_title_are_read(tmp_path: Path) -> None:
    """A record without the field has a digest without it."""
    store = Store(tmp_path / "store")
    identity = key("test", 1)
    store.publish(identity, 1, stage="test", version=1)
    path = store.root / "records" / identity[:2] / f"{identity}.json"
    assert b"title" not in path.read_bytes()
    record = Store(store.root).get(identity)
    assert record is not None
    assert record.title == ""


def test_differences_name_what_changed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    one = a_run(tmp_path, store, title_of("a"), [])
    two = one.model_copy(
        update={
            "versions": {**one.versions, "ffmpeg": "8"},
            "files": {"ladder.json": "0" * 64},
            "package": "0" * 64,
        }
    )
    assert [what for what, _, _ in history.differences(one, two)] == [
        "files.ladder.json",
        "package",
        "versions.ffmpeg",
    ]
    history.check_repeated(one, one)
    with pytest.raises(VerificationFailed, match=r"1 of 1 files .*ffmpeg was .* and is 8"):
        history.check_repeated(one, two)


def test_a_run_is_repeated_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = quick_profile()
    source = make(SHORT, tmp_path / "title.mp4")
    asked: dict[str, Any] = {"profile": profile, "heights": (60,)}
    made = run_inline(source, tmp_path / "one", tmp_path / "store", **asked)
    manifest = made.manifest
    assert manifest is not None
    assert manifest.files == contents(tmp_path / "one")
    before = manifests.find_run(Store(tmp_path / "store"), "latest")
    again = history.repeated(before, RunOptions(source, tmp_path / "two"))
    assert (again.profile, again.heights, again.preset) == (profile, (60,), "ultrafast")
    repeated = run_inline(source, tmp_path / "two", tmp_path / "other", **asked)
    assert repeated.manifest is not None
    history.check_repeated(before, repeated.manifest)

    source.write_bytes(source.read_bytes() + b"x")
    with pytest.raises(BadInput, match="is not the source of run"):
        history.repeated(before, again)
    source.unlink()
    with pytest.raises(BadInput, match=r"not at .* any more"):
        history.repeated(before, again)
    assert Store(tmp_path / "store").read_entry(f"runs/{manifest.id}.keys")

    place = ["--store", str(tmp_path / "store")]
    assert main(["runs", "list", *place]) == 0
    assert manifest.id in capsys.readouterr().out
    assert main(["runs", "show", manifest.id[:10], *place]) == 0
    assert manifest.source.sha256 in capsys.readouterr().out
    assert main(["runs", "diff", "latest", manifest.id, *place, "--json"]) == 0
    assert '"same_package": true' in capsys.readouterr().out
    assert main(["store", "fsck", *place]) == 0
    assert main(["store", "titles", *place]) == 0
    assert main(["store", "gc", "--dry-run", *place]) == 0
    assert "would remove 0 records" in capsys.readouterr().out


def test_a_run_of_release_0_1_is_repeated_with_the_options_that_it_had(tmp_path: Path) -> None:
    """Its documents name a built-in profile of that release and do not hold its content."""
    source = make(SHORT, tmp_path / "title.mp4")
    made = run_inline(
        source, tmp_path / "one", tmp_path / "store", profile="default-0.1", codec="x264",
        heights=(60,),
    )  # fmt: skip
    assert made.manifest is not None
    old = {
        name: value
        for name, value in made.manifest.options.items()
        if name not in ("profile_content", "profile_sha256")
    }
    before = made.manifest.model_copy(update={"options": {**old, "profile": "default"}})
    options = history.repeated(before, RunOptions(source, tmp_path / "two"))
    asked = LadderOptions.from_document(made.manifest.options)
    for field in fields(LadderOptions):
        assert getattr(options, field.name) == getattr(asked, field.name)
    assert options.profile == "default-0.1"

    # A package of that release says "default", and is read with the profile of that release.
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    run["options"] = before.options
    (tmp_path / "one" / "run.json").write_text(json.dumps(run))
    ladder = tmp_path / "one" / "ladder.json"
    ladder.write_text(ladder.read_text().replace('"default-0.1"', '"default"'))
    package = Package.open(tmp_path / "one")
    assert package.ladder.profile == "default"
    assert package.profile == load_profile("default-0.1")
    assert package.recipe.name == "x264-ultrafast"


def test_a_damaged_store_fails_the_command(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    publish(store, "one", title_of("a"))
    blob = store.put_blob(b"one")
    (store.root / "blobs" / blob.sha256[:2] / blob.sha256).write_bytes(b"two")
    place = ["--store", str(store.root)]
    assert main(["store", "fsck", *place]) == 1
    assert main(["store", "fsck", "--repair", *place]) == 0
    assert main(["store", "fsck", *place]) == 0
