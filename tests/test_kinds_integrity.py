"""The source changes while a run works: nothing of other bytes is delivered or kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cluster import events
from cluster.cli import main
from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.package.package import Package
from cluster.package.source_check import SourceReport, check_source
from cluster.stages import quarantine
from cluster.stages.quarantine import reading
from cluster.stages.title import open_title
from cluster.store import Store, open_store
from cluster.store.garbage import collect_garbage, title_sizes
from encoder import likeness
from encoder.errors import BadInput, SourceChanged, VerificationFailed
from encoder.likeness import Levels
from encoder.source.stamp import Stamp
from fixtures.kinds import X264, beeping, ff
from tests.running import contents, quick_profile

MEDIA = ("encode", "score", "shots", "features", "stills", "audio", "artwork", "predict")


@dataclass(frozen=True)
class Films:
    """Two films of one size and length, and the package of the first from a store of its own."""

    a: Path
    b: Path
    package: dict[str, str]
    folder: Path
    """Folder of the first film as ``title.mp4``, its ``store`` and its package ``out``."""


def options(source: Path, out: Path, store: Path) -> RunOptions:
    return RunOptions(
        source, out, store=store, preset="ultrafast", heights=(90,), profile=quick_profile()
    )


def run(
    source: Path, out: Path, store: Path, on_event: events.Listener = lambda event: None
) -> None:
    run_title(options(source, out, store), on_event, InlineExecutor())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")
    paths = {}
    for name, effect in (("a", ""), ("b", ",negate,hflip")):
        paths[name] = folder / f"{name}.mp4"
        picture = f"testsrc2=size=320x180:rate=12:duration=2{effect}"
        sound = f"sine=frequency={440 if name == 'a' else 880}:duration=2"
        ff("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *X264, paths[name])
    here = folder / "title.mp4"
    shutil.copyfile(paths["a"], here)
    run(here, folder / "out", folder / "store")
    return Films(paths["a"], paths["b"], contents(folder / "out"), folder)


def over(source: Path, film: Path) -> None:
    shutil.copyfile(film, source)


def over_with_times_restored(source: Path, film: Path) -> None:
    """As `cp` and `touch -r` do, with the size of the first film."""
    status = source.stat()
    content = film.read_bytes()
    source.write_bytes(content[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(source: Path, film: Path) -> None:
    delivery = source.with_suffix(".part")
    shutil.copyfile(film, delivery)
    delivery.rename(source)


Change = Callable[[Path, Path], None]
CHANGES = (over_with_times_restored, renamed_over)


def when(stage: str, change: Callable[[], None], done: int = 1) -> events.Listener:
    """Call ``change`` once, when the stage begins (``done`` 0) or has done so much."""
    pending = [change]

    def listen(event: events.Event) -> None:
        begun = isinstance(event, events.StagePlanned) and not done
        on = isinstance(event, events.StageProgress) and event.done >= done > 0
        if (begun or on) and getattr(event, "stage", "").startswith(stage) and pending:
            pending.pop()()

    return listen


def kept_of_media(store: Path) -> list[str]:
    """Stages of the records of a store that were made of a source."""
    opened = Store(store)
    assert not list(store.glob("quarantine/*/*/*"))
    return [stage for stage in MEDIA for record in opened.records(stage)]


# The stages of a run, in order: (stage, how much of it was done).
MOMENTS = [("shots", 0), ("encode", 1), ("verify", 0)]


@pytest.mark.parametrize(("stage", "done"), MOMENTS)
def test_a_film_that_is_copied_over_the_source_is_never_stored_as_the_first(
    films: Films, tmp_path: Path, stage: str, done: int
) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    listener = when(stage, lambda: over(here, films.b), done)
    with pytest.raises(SourceChanged, match=r"changed while it was used.*run the same command"):
        run(here, tmp_path / "out", store, listener)
    assert not (tmp_path / "out").exists()
    assert kept_of_media(store) == []


@pytest.mark.parametrize("change", CHANGES)
def test_however_the_source_is_replaced_a_later_run_of_the_first_film_is_right(
    films: Films, tmp_path: Path, change: Change
) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    with pytest.raises(SourceChanged):
        run(here, tmp_path / "out", store, when("encode", lambda: change(here, films.b)))
    over(here, films.a)
    run(here, tmp_path / "out", store)
    assert contents(tmp_path / "out") == films.package


def test_the_command_that_the_refusal_names_packages_the_new_film(
    films: Films, tmp_path: Path
) -> None:
    here, out, store = tmp_path / "title.mp4", tmp_path / "out", tmp_path / "store"
    over(here, films.a)
    with pytest.raises(SourceChanged, match="run the same command again to package what it holds"):
        run(here, out, store, when("encode", lambda: over(here, films.b)))
    run(here, out, store)
    Package.open(out).verify_source(films.b)


def test_a_film_that_was_there_only_while_encodes_were_made_leaves_nothing(
    films: Films, tmp_path: Path
) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    status = here.stat()

    def restore() -> None:
        over(here, films.a)
        os.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))

    before, after = when("encode", lambda: over(here, films.b), 0), when("encode", restore, 1)

    def listen(event: events.Event) -> None:
        before(event)
        after(event)

    with pytest.raises(SourceChanged):
        run(here, tmp_path / "out", store, listen)
    restore()
    run(here, tmp_path / "out", store)
    assert contents(tmp_path / "out") == films.package


def test_a_change_that_no_stamp_shows_is_found_by_the_last_digest(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    monkeypatch.setattr(Stamp, "of", classmethod(lambda cls, path: Stamp(1, 2, 3, 4)))
    with pytest.raises(SourceChanged):
        run(here, tmp_path / "out", store, when("encode", lambda: over(here, films.b), 0))
    assert not (tmp_path / "out").exists()
    assert kept_of_media(store) == []
    over(here, films.a)
    run(here, tmp_path / "out", store)
    assert contents(tmp_path / "out") == films.package


@pytest.mark.parametrize("touch", [lambda p: p.chmod(0o600), lambda p: p.touch()])
def test_a_touched_source_with_the_same_bytes_is_packaged(
    films: Films, tmp_path: Path, touch: Callable[[Path], None]
) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    run(here, tmp_path / "out", store, when("encode", lambda: touch(here)))
    assert contents(tmp_path / "out") == films.package


def test_the_same_film_delivered_again_by_a_rename_is_packaged(
    films: Films, tmp_path: Path
) -> None:
    here = tmp_path / "title.mp4"
    over(here, films.a)
    listener = when("encode", lambda: renamed_over(here, films.a))
    run(here, tmp_path / "out", tmp_path / "store", listener)
    assert contents(tmp_path / "out") == films.package


def test_a_link_that_is_pointed_elsewhere_still_means_the_file_of_the_beginning(
    films: Films, tmp_path: Path
) -> None:
    first, second, here = (tmp_path / name for name in ("1.mp4", "2.mp4", "title.mp4"))
    over(first, films.a)
    over(second, films.b)
    here.symlink_to(first)

    def repoint() -> None:
        (tmp_path / "new").symlink_to(second)
        (tmp_path / "new").rename(here)

    run(here, tmp_path / "out", tmp_path / "store", when("encode", repoint))
    assert contents(tmp_path / "out") == films.package


def test_a_source_that_is_removed_is_named_and_going_on_works(films: Films, tmp_path: Path) -> None:
    here, store = tmp_path / "title.mp4", tmp_path / "store"
    over(here, films.a)
    aside = tmp_path / "aside.mp4"
    with pytest.raises(SourceChanged, match=r"can no longer be read .* put it back"):
        run(here, tmp_path / "out", store, when("encode", lambda: here.rename(aside)))
    aside.rename(here)
    run(here, tmp_path / "out", store)
    assert contents(tmp_path / "out") == films.package


# -- before a run ------------------------------------------------------------------------------


def test_an_upload_that_goes_on_is_refused(films: Films, tmp_path: Path) -> None:
    here = tmp_path / "title.mp4"
    with here.open("wb") as upload:
        upload.write(films.a.read_bytes())
        upload.flush()
        with pytest.raises(SourceChanged, match="still being written: another process has it open"):
            open_title(here, tmp_path)
    assert open_title(here, tmp_path).watched == str(here)


def test_a_file_that_grows_while_it_is_opened_is_refused(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "title.mp4"
    over(here, films.a)
    plan = "cluster.stages.title.plan_guarded"
    planned = open_title(here, tmp_path).reference

    def growing(path: Path, *arguments: object) -> object:
        with here.open("ab") as upload:
            upload.write(bytes(1000))
        return planned

    monkeypatch.setattr(plan, growing)
    with pytest.raises(SourceChanged, match=r"still being written: it grew from \d+ to \d+ bytes"):
        open_title(here, tmp_path)


# -- the quarantine ----------------------------------------------------------------------------


def test_results_are_seen_by_the_same_session_only_until_they_are_confirmed(
    films: Films, tmp_path: Path
) -> None:
    here, copy = tmp_path / "title.mp4", tmp_path / "copy.mp4"
    over(here, films.a)
    over(copy, films.a)
    store, key = Store(tmp_path / "store"), "ab" * 32
    source, other = open_title(here, tmp_path), open_title(copy, tmp_path)

    def killed() -> None:
        with reading(store, source) as bound:
            bound.publish(key, {"x": 1}, stage="encode", version=1, title=source.id)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert store.get(key) is None
    with reading(store, other) as bound:
        assert bound.get(key) is None
    with reading(store, open_title(here, tmp_path)) as bound:
        found = bound.get(key)
        assert found is not None
        assert found.value == {"x": 1}
        assert [record.key for record in bound.records("encode")] == [key]
    assert store.get(key) == found


def test_a_long_run_confirms_in_between(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "title.mp4"
    over(here, films.a)
    store, source = Store(tmp_path / "store"), open_title(here, tmp_path)
    with reading(store, source) as bound:
        bound.publish("ab" * 32, 1, stage="encode", version=1)
        quarantine.confirm_when_due(bound)
        assert store.get("ab" * 32) is None
        monkeypatch.setattr(quarantine, "LEAST_SECONDS", 0.0)
        monkeypatch.setattr(quarantine, "SHARE", 0.0)
        quarantine.confirm_when_due(bound)
        assert store.get("ab" * 32) is not None


def test_garbage_collection_forgets_a_quarantine_that_nobody_took_up(
    films: Films, tmp_path: Path
) -> None:
    here = tmp_path / "title.mp4"
    over(here, films.a)
    store, source = Store(tmp_path / "store"), open_title(here, tmp_path)
    bound = quarantine.title_store(store, source)
    blob = bound.put_blob(b"media")
    bound.publish("ab" * 32, 1, {"media": blob}, stage="shots", version=1, title=source.id)
    assert collect_garbage(store).records == 0
    assert [size.records for size in title_sizes(store)] == [1]
    collected = collect_garbage(store, keep_seconds=-1)
    assert (collected.records, collected.blobs) == (1, 1)
    assert bound.get("ab" * 32) is None


# -- the source's side of verification ----------------------------------------------------------


@dataclass(frozen=True)
class Poisoned:
    """What a release without the quarantine made of a film that was replaced."""

    store: Path
    out: Path


@pytest.fixture(scope="module")
def poisoned(films: Films, tmp_path_factory: pytest.TempPathFactory) -> Poisoned:
    folder = tmp_path_factory.mktemp("poisoned")
    here = folder / "title.mp4"
    over(here, films.a)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quarantine.Watch, "check", lambda watch: None)
        patch.setattr(quarantine.Watch, "digest", lambda watch: None)
        unchecked = SourceReport(0, 0)
        patch.setattr("cluster.jobs.deliver.check_source", lambda *_, **options: unchecked)
        replace = when("encode", lambda: over(here, films.b), 0)
        run(here, folder / "out", folder / "store", replace)
    return Poisoned(folder / "store", folder / "out")


def test_verify_finds_another_film_by_its_source(films: Films, poisoned: Poisoned) -> None:
    package = Package.open(poisoned.out)
    package.verify()  # from its files alone it is whole
    with pytest.raises(VerificationFailed, match="does not show what the source shows there"):
        package.verify_source(films.a)
    with pytest.raises(BadInput, match="is not the source that"):
        package.verify_source(films.b)


def test_verify_compares_pictures_and_sound_with_the_source(
    films: Films, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = films.folder / "out"
    assert main(["verify", str(out)]) == 0
    assert "are those of the source" in capsys.readouterr().out
    out = shutil.copytree(out, tmp_path / "out")
    facts = (out / "run.json").read_text()
    (out / "run.json").write_text(facts.replace("title.mp4", "gone.mp4"))
    assert main(["verify", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    assert said["source"] is None
    assert "gone.mp4" in said["source_missing"]
    assert main(["verify", str(out), "--source", str(films.a), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    assert said["source"]["pictures"] >= 24
    assert main(["verify", str(out), "--source", str(films.b)]) == 2


def test_a_poisoned_store_is_refused_found_and_healed(
    films: Films, poisoned: Poisoned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, out, store = tmp_path / "title.mp4", tmp_path / "out", tmp_path / "store"
    shutil.copytree(poisoned.store, store)
    over(here, films.a)
    with pytest.raises(VerificationFailed, match=r"store fsck --source SOURCE --repair"):
        run(here, out, store)
    assert not out.exists()
    place = ["--store", str(store)]
    assert main(["store", "fsck", *place]) == 1  # by the title's own thumbnails
    assert "differ from the thumbnails of its title" in capsys.readouterr().out
    assert main(["store", "fsck", "--source", str(here), *place]) == 1
    assert "differ from the source's by" in capsys.readouterr().out
    assert main(["store", "fsck", "--source", str(here), "--repair", *place]) == 0
    assert f"make the packages again that were made from them: {poisoned.out}" in (
        capsys.readouterr().out
    )
    assert main(["store", "fsck", "--source", str(here), *place]) == 0
    run(here, out, store)
    assert contents(out) == films.package


def test_a_right_store_has_no_flaws(films: Films) -> None:
    words = ["store", "fsck", "--store", str(films.folder / "store")]
    assert main(words) == 0
    assert main([*words, "--source", str(films.a)]) == 0


# -- sound -------------------------------------------------------------------------------------


def beeps(*times: float, seconds: float = 6.0, name: str = "x") -> Levels:
    levels = np.zeros(round(seconds * 100))
    for time in times:
        levels[round(time * 100) : round(time * 100) + 12] = 0.5
    return Levels(levels, name)


@pytest.mark.parametrize(
    ("source", "track", "late"),
    [
        (beeps(1.0), beeps(2.48), 1.48),
        (beeps(1.0, 3.016, 5.032), beeps(1.0, 3.016, 5.032), 0.0),
        (beeps(1.0, 2.5), beeps(0.5, 2.0), -0.5),
    ],
)
def test_a_shift_of_sound_is_found_to_the_hundredth(
    source: Levels, track: Levels, late: float
) -> None:
    found, correlation = likeness.shift(track, source)
    assert found == pytest.approx(late, abs=0.011)
    assert correlation > 0.99


def made_with_sound(path: Path, beep: float, film: str = "testsrc2") -> None:
    picture = f"{film}=size=320x180:rate=12:duration=2"
    ff("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", beeping(2, (beep,)), *X264, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: made_with_sound(path, 1.5), r"'audio' is 1\.\d\d s early against stream 1"),
        (
            lambda path: made_with_sound(path, 0.5, "smptebars"),
            "does not show what the source shows",
        ),
        (
            lambda path: ff("-f", "lavfi", "-i", "testsrc2=s=320x180:r=12:d=3", *X264, path),
            "the package has 24 frames at 12 fps, its source 36 at 12",
        ),
    ],
)
def test_a_source_with_other_sound_pictures_or_length_is_told(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    first, other, out = tmp_path / "first.mp4", tmp_path / "other.mp4", tmp_path / "out"
    made_with_sound(first, 0.5)
    run(first, out, tmp_path / "store")
    package = Package.open(out)
    change(other)
    reference = open_title(other, tmp_path).reference
    with pytest.raises(VerificationFailed, match=message):
        check_source(out, package.ladder.rungs, package.frame_rate, reference)


# -- upkeep ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["fsck"], ["gc"], ["titles"]])
def test_a_mistyped_store_is_not_made(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *words, "--store", str(tmp_path / "stroe")]) == 2
    assert "is not a store; name the folder" in capsys.readouterr().err
    assert not (tmp_path / "stroe").exists()


def test_a_negative_age_is_refused(tmp_path: Path) -> None:
    assert main(["store", "gc", "--days", "-1", "--store", str(tmp_path)]) == 2


def test_a_url_without_a_store_is_refused_in_one_line() -> None:
    with pytest.raises(BadInput, match=r"no store at ftp://nowhere.*use a local folder"):
        open_store("ftp://nowhere/x")
