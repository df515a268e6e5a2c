"""The command of the claims: what follows from measured rungs, and going on where it stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.jobs.request import RunOptions
from cluster.store import Store
from encoder.errors import ToolFailed
from encoder.source.planning import plan_source
from fixtures.clips import make
from ladder.profiles import Profile, load_profile
from tests import claims
from tests.claims_material import (
    TODAY,
    VMAF,
    Kept,
    Result,
    Rung,
    identity,
    received,
    same_recipe,
    saving,
)
from tests.claims_tables import least_saving, tables
from tests.running import SMALL

JUDGES = (VMAF, "xpsnr", "ssim")


def ladder(codec: str, factors: dict[str, float]) -> tuple[Rung, ...]:
    """Rungs on one curve, which needs ``factors`` times the bits of the fixed ladder by judge.

    By a judge that differs from the first, a rung of the same rate has another quality.
    """
    rungs = []
    for rate in (2e5, 4e5, 8e5, 16e5, 32e5):
        quality = {judge: 20 * math.log10(rate / factors[judge]) - 60 for judge in factors}
        rungs.append(Rung(codec, rate, quality))
    return tuple(rungs)


def same(factor: float) -> dict[str, float]:
    return dict.fromkeys(JUDGES, factor)


def result(title: str = "a.mp4", profile: str = "default", **changes: object) -> Result:
    made = Result(
        title=title,
        profile=profile,
        identity="i",
        code="c",
        seconds=2.0,
        recipes=("x264-slow",),
        weights="w",
        cpu_seconds={"encode": 60.0, "vmaf": 40.0},
        ours=ladder("x264", {VMAF: 0.8, "xpsnr": 0.85, "ssim": 0.9}),
        fixed=ladder("x264", same(1.0)),
        plain_per_title=ladder("x264", same(0.95)),
        per_title={"x264": ladder("x264", same(0.9))},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_saving_is_the_bd_rate_by_each_judge() -> None:
    one = result()
    assert saving(one, "fixed", VMAF) == pytest.approx(-20, abs=0.01)
    assert saving(one, "fixed", "xpsnr") == pytest.approx(-15, abs=0.01)
    assert saving(one, "plain_per_title", VMAF) == pytest.approx((0.8 / 0.95 - 1) * 100, abs=0.01)
    assert same_recipe(one, "x264", "ssim") == pytest.approx(0, abs=0.01)
    assert same_recipe(one, "svtav1", VMAF) is None


def test_the_least_of_the_others_is_that_of_the_means() -> None:
    """Not the mean of each title's least: the judges are averaged over titles first."""
    other = result("b.mp4", ours=ladder("x264", {VMAF: 0.8, "xpsnr": 0.95, "ssim": 0.7}))
    assert least_saving([result(), other], "fixed") == pytest.approx(-10, abs=0.01)
    apart = result("c.mp4", fixed=ladder("x264", same(1e-9)))
    assert least_saving([result(), apart], "fixed") is None


def test_savings_of_classes_are_added_by_their_shares() -> None:
    av1 = ladder("svtav1", same(0.5))
    both = result(ours=(*ladder("x264", same(0.8)), *av1))
    assert saving(both, "fixed", VMAF) == pytest.approx(-20 * 0.5 - 50 * 0.5, abs=0.01)
    bits, worse = received(both, 3e6)
    h264, _ = received(result(ours=ladder("x264", same(0.8))), 3e6)
    for_all = tuple(replace(rung, codec="x264") for rung in both.ours)
    everyone, _ = received(result(ours=for_all), 3e6)
    assert bits == pytest.approx((h264 + everyone) / 2)
    assert everyone < h264
    assert worse == pytest.approx(0)


def test_a_viewer_without_av1_gets_none() -> None:
    """A ladder whose H.264 rungs end early leaves those viewers worse off, by their share."""
    short = result(ours=(*ladder("x264", same(1.0))[:2], *ladder("svtav1", same(0.5))))
    _, worse = received(short, 10e6)
    whole = result(ours=ladder("x264", same(1.0))[:2])
    assert worse == pytest.approx(received(whole, 10e6)[1] / 2)
    assert worse > 0


def test_the_tables_say_everything() -> None:
    both = result(profile="auto", ours=(*ladder("x264", same(0.8)), *ladder("svtav1", same(0.5))))
    ours = [result(), result("b.mp4", weights=""), both, replace(both, title="b.mp4")]
    today = [result(profile=TODAY, cpu_seconds={"encode": 50.0})]
    text = tables(ours, today)
    lines = text.splitlines()
    assert "| a | -20.0 | -15.0 | -10.0 | -35.0 | -35.0 | -35.0 |" in lines
    (default,) = [line for line in lines if line.startswith("| default |")]
    assert default.startswith("| default | -20.0 / -10.0 | -15.8 / -5.3 | -11.1 |")
    assert default.endswith("| 2.00 | 2 |")
    assert [line for line in lines if line.startswith("| auto | -35.0 / -35.0 |")]
    assert "| a | 2.00 | 2.00 |" in lines
    assert "| b | – | – |" in lines
    assert "| mean | 2.00 (1 of 2) | 2.00 (1 of 2) |" in lines
    assert "weights that may know the title's group: b default." in text
    assert "several versions of the code" not in text
    assert "several versions of the code" in tables([*ours, result("c.mp4", code="d")], today)
    assert tables([], []) == "Nothing has been measured yet."


def test_results_are_kept_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "data" / "claims.jsonl"
    kept = Kept(path)
    for one in (result(), result("b.mp4"), result(identity="later")):
        kept.put(one)
    assert len(path.read_text().splitlines()) == 2
    again = Kept(path)
    assert again.get("a.mp4", "default") == result(identity="later")
    assert again.get("b.mp4", "default") == result("b.mp4")
    assert again.get("a.mp4", "auto") is None


def test_everything_that_decides_a_result_is_in_its_identity() -> None:
    arguments = [("a", 2.0, "p", ""), ("b", 2.0, "p", ""), ("a", None, "p", ""),
                 ("a", 2.0, "q", ""), ("a", 2.0, "p", "w")]  # fmt: skip
    assert len({identity(*each) for each in arguments}) == len(arguments)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def title(tmp_path: Path) -> Path:
    return make(replace(SMALL, scenes=SMALL.scenes[:1]), tmp_path / "title.mp4")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Profiles that were measured; measuring gives a result at once."""
    made: list[str] = []

    def measure(
        self: claims.Claims, title: str, profile: str, on_event: object, *, compared: bool = True
    ) -> Result:
        made.append(profile)
        found = result(title, profile, identity=self.identity(title, profile))
        return found if compared else replace(found, ours=())

    monkeypatch.setattr(claims.Claims, "measure", measure)
    return made


def command(folder: Path, title: Path, *more: str) -> int:
    kept = ["--kept", str(folder / "kept.jsonl"), "--work", str(folder / "work")]
    return claims.main(["--titles", str(title), "--profiles", "default,quick", *kept, *more])


def test_it_goes_on_where_it_stopped(
    title: Path,
    tmp_path: Path,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(tmp_path, title) == 0
    assert calls == [TODAY, "default", "quick"]
    first = capsys.readouterr().out
    assert command(tmp_path, title) == 0
    assert len(calls) == 3
    assert capsys.readouterr().out == first

    def changed(name: str) -> Profile:
        profile = load_profile(name)
        return replace(profile, jnd=5.0) if name == "quick" else profile

    monkeypatch.setattr(claims, "load_profile", changed)
    assert command(tmp_path, title, "--show") == 0
    assert "quick: 100 s of CPU (stale: measure it again)" in capsys.readouterr().err
    assert command(tmp_path, title) == 0
    assert calls[3:] == ["quick"]
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "title.safetensors").write_bytes(b"w")
    assert command(tmp_path, title, "--weights", str(weights)) == 0
    assert calls[4:] == [TODAY, "default", "quick"]


def test_the_profile_of_before_is_compared_only_where_it_is_named(
    title: Path, tmp_path: Path, calls: list[str]
) -> None:
    assert command(tmp_path, title) == 0
    kept = Kept(tmp_path / "kept.jsonl")
    before = kept.get(str(title), TODAY)
    assert before is not None
    assert before.ours == ()
    assert command(tmp_path, title, "--profiles", TODAY) == 0
    assert calls[3:] == [TODAY]


def test_a_profile_that_fails_does_not_take_the_others_with_it(
    title: Path,
    tmp_path: Path,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measure = claims.Claims.measure

    def failing(
        self: claims.Claims, title: str, profile: str, on_event: object, *, compared: bool = True
    ) -> Result:
        if profile == "default":
            raise ToolFailed("ffmpeg failed")
        return measure(self, title, profile, on_event, compared=compared)  # type: ignore[arg-type]

    monkeypatch.setattr(claims.Claims, "measure", failing)
    assert command(tmp_path, title) == 1
    assert calls == [TODAY, "quick"]
    assert "title.mp4, default: ffmpeg failed" in capsys.readouterr().err
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 2


def test_a_run_begins_with_an_empty_store_and_leaves_it_to_the_comparison(
    title: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of a run that was killed is not used: the CPU would not be that of a whole job."""
    asked = claims.Claims(tmp_path / "work", tmp_path / "store", None, None, 1)
    package = tmp_path / "work" / "packages" / "it"
    left = Store(package.with_name("it-store"))
    left.put_blob(b"of a run that was killed")

    def run(options: RunOptions, on_event: object, executor: object) -> None:
        assert options.weights is None
        assert options.profile == "default"
        assert isinstance(options.store, Path)
        assert not options.store.exists()
        store = Store(options.store)
        store.publish("0" * 64, "made", {"it": store.put_blob(b"made")}, stage="encode", version=1)
        options.out.mkdir(parents=True)
        (options.out / "run.json").write_text(json.dumps({"cpu_seconds": {"encode": 1.0}}))

    monkeypatch.setattr(claims, "run_title", run)
    asked.make_package(str(title), "default", package, lambda event: None)
    assert (package / "run.json").exists()
    record = Store(tmp_path / "store").get("0" * 64)
    assert record is not None
    assert record.value == "made"
    assert [path.name for path in package.parent.iterdir()] == ["it"]
    asked.make_package(str(title), "default", tmp_path / "other", lambda event: None)


def test_a_cut_ends_at_a_keyframe_and_copies_the_rest(tiny_title: Path, tmp_path: Path) -> None:
    whole = plan_source(tiny_title, tmp_path)
    for seconds in (0.9, 2.1, 9.0):
        out = tmp_path / f"{seconds}.mp4"
        claims.cut(tiny_title, seconds, out)
        part = plan_source(out, tmp_path)
        assert part.frame_rate == whole.frame_rate
        assert 0 < part.frames <= whole.frames
        if seconds > 3:
            assert part.frames == whole.frames
