"""Which records of a store belong to their title: every way to read the source counts."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.stages import readings
from cluster.store import Store
from cluster.store.garbage import collect_garbage
from cluster.store.manifests import list_runs, remove_run
from encoder.errors import SourceUnusable
from fixtures.kinds import X264, beeping, ff, flashing
from tests.running import quick_profile

AAC = ("-c:a", "aac", "-b:a", "64k")


def make_two_programmes(path: Path) -> None:
    """Write two films as the programmes 1 and 2 of a transport stream; the sound is longer."""
    films = [f"{name}=size=160x96:rate=12:duration=2" for name in ("testsrc2", "rgbtestsrc")]
    inputs = [part for film in films for part in ("-f", "lavfi", "-i", film)]
    for beep in (0.5, 1.5):
        inputs += ["-f", "lavfi", "-i", beeping(3, (beep,))]
    maps = [part for n in (0, 1, 2, 3) for part in ("-map", str(n))]
    programs = ["-program", "program_num=1:st=0:st=2", "-program", "program_num=2:st=1:st=3"]
    ff(*inputs, *maps, *X264, *AAC, *programs, "-f", "mpegts", path)


def run(source: Path, out: Path, store: Path, **choices: object) -> None:
    asked = RunOptions(
        source, out, store=store, preset="ultrafast", heights=(48,), profile=quick_profile()
    )
    run_title(replace(asked, **choices), executor=InlineExecutor(), on_event=lambda event: None)


def records(store: Path) -> int:
    return len(list((store / "records").rglob("*.json")))


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``title.ts``, and of a ``store`` that read it in three ways."""
    folder = tmp_path_factory.mktemp("broadcast")
    make_two_programmes(folder / "title.ts")
    for number, choices in enumerate(({}, {"program": 2}, {"tail": "cut"})):
        run(folder / "title.ts", folder / f"out{number}", folder / "store", **choices)
    return folder


def test_records_of_every_choice_are_healthy(broadcast: Path, tmp_path: Path) -> None:
    store = shutil.copytree(broadcast / "store", tmp_path / "store")
    before = records(store)
    place = ["--repair", "--store", str(store)]
    assert main(["store", "fsck", *place]) == 0
    assert main(["store", "fsck", "--source", str(broadcast / "title.ts"), *place]) == 0
    for each in list_runs(Store(store)):  # what runs chose is forgotten, their records are not
        remove_run(Store(store), each.id)
    assert main(["store", "fsck", "--source", str(broadcast / "title.ts"), *place]) == 0
    assert records(store) == before


def test_a_truncated_source_is_compared_as_it_was_accepted(tmp_path: Path) -> None:
    whole, cut, store = tmp_path / "whole.mp4", tmp_path / "cut.mp4", tmp_path / "store"
    ff(
        "-f",
        "lavfi",
        "-i",
        flashing("160x96", 12, 3, (1.0,)),
        *X264,
        "-movflags",
        "faststart",
        whole,
    )
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    run(cut, tmp_path / "out", store, accept_truncated=True)
    before = records(store)
    words = ["store", "fsck", "--repair", "--store", str(store)]
    assert main([*words, "--source", str(cut)]) == 0
    assert records(store) == before
    cut.write_bytes(b"no video")
    assert main([*words, "--source", str(cut)]) == 2


def test_what_a_refused_reading_made_is_kept_and_said(
    broadcast: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = shutil.copytree(broadcast / "store", tmp_path / "store")
    before = records(store)
    real = readings.open_title

    def without_programme_2(path, workdir, *, tone_map, choices):
        if choices.program == 2:
            raise SourceUnusable("there is no programme 2")
        return real(path, workdir, tone_map=tone_map, choices=choices)

    monkeypatch.setattr(readings, "open_title", without_programme_2)
    words = ["store", "fsck", "--repair", "--store", str(store)]
    assert main([*words, "--source", str(broadcast / "title.ts")]) == 0
    assert (
        "records cannot be judged and are kept: a run read the source in a way that is refused"
        in (capsys.readouterr().out)
    )
    assert records(store) == before


def test_without_the_thumbnails_of_a_reading_its_encodes_are_kept(
    broadcast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(broadcast / "store", tmp_path / "store")
    store = Store(copy)
    for record in list(store.records("stills"))[:2]:
        store.remove_entry(f"records/{record.key[:2]}/{record.key}.json")
    before = records(copy)
    assert main(["store", "fsck", "--repair", "--store", str(copy)]) == 0
    assert "give --source" in capsys.readouterr().out
    assert records(copy) == before


def test_every_removed_record_is_counted(
    broadcast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(shutil.copytree(broadcast / "store", tmp_path / "store"))
    title = list_runs(store)[0].title
    film = tmp_path / "other.mp4"
    ff("-f", "lavfi", "-i", "smptebars=size=160x96:rate=12:duration=2", *X264, film)
    run(film, tmp_path / "out", store.root)
    wrong = [each for each in store.records("encode") if each.title != title]
    for number, record in enumerate(wrong):  # of the other film, under the title
        store.publish_record(replace(record, key=f"{number:064x}", title=title))
    there = sum(
        f'"title":"{title}"' in path.read_text().replace(": ", ":")
        for path in (store.root / "records").rglob("*.json")
    )
    words = ["store", "fsck", "--source", str(broadcast / "title.ts"), "--store", str(store.root)]
    assert main(words) == 1
    said = f"{len(wrong)} entries that do not belong to their title"
    assert said in capsys.readouterr().err
    assert main([*words, "--repair"]) == 0
    assert f"{said}, for which {there} records are removed" in capsys.readouterr().out
    assert main(words) == 0


def test_empty_folders_of_the_quarantine_are_removed(broadcast: Path, tmp_path: Path) -> None:
    assert not (broadcast / "store" / "quarantine").exists() or not list(
        (broadcast / "store" / "quarantine").iterdir()
    )
    store = Store(tmp_path / "store")
    for number in range(3):
        (store.root / "quarantine" / "session" / f"{number:02}").mkdir(parents=True)
    store.write_entry("quarantine/session/00/kept.json", b"{}")
    collect_garbage(store)
    assert [path.name for path in (store.root / "quarantine" / "session").iterdir()] == ["00"]


def test_folders_vanish_while_entries_are_written_and_listed(tmp_path: Path) -> None:
    store, ended = Store(tmp_path / "store"), threading.Event()

    def sweep() -> None:
        while not ended.is_set():
            store.remove_empty_folders("quarantine")

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(200):
            name = f"quarantine/{number % 3}/{number % 7:02}/{number}.json"
            store.write_entry(name, b"{}")
            assert [entry.name for entry in store.entries("quarantine")] == [name]
            store.remove_entry(name)
    finally:
        ended.set()
        sweeper.join()
    store.remove_empty_folders("quarantine")
    assert not (store.root / "quarantine").exists()


@pytest.mark.parametrize("words", [["list"], ["show", "x"], ["diff", "x", "y"], ["remove", "x"]])
def test_looking_at_runs_makes_no_store(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", *words, "--store", str(tmp_path / "stroe")]) == 2
    assert "is not a store; name the folder" in capsys.readouterr().err
    assert not (tmp_path / "stroe").exists()


def test_verify_says_why_a_sound_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "even.mp4", tmp_path / "out"
    picture, sound = "testsrc2=size=160x96:rate=12:duration=2", "sine=frequency=440:duration=4"
    ff("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, *AAC, source)
    run(source, out, tmp_path / "store", tail="cut")
    assert main(["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert "pictures are those of the source, at the same times; the sound of 'audio" in said
    assert "varies too little to be compared" in said
    assert "0 audio tracks" not in said
