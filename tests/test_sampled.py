"""Scores of some frames: the same scores of these frames, under names and keys of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.jobs.request import LadderRequest, RunOptions
from cluster.stages.encodes import score_key
from cluster.stages.title import TitleSource, open_title
from cluster.training.package_rows import add_packages
from encoder.encode import encode_shot
from encoder.errors import BadInput, FrameMismatch
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from ladder.profiles import load_profile, profile_sha256
from tests.cli_material import called
from tests.running import SMALL_HEIGHTS, SmallRun, contents, records, run_inline
from vmaf import models
from vmaf.graph import Context, Distorted, score_command
from vmaf.measure import measure, parse_log
from vmaf.models import V0, V1
from vmaf.sampled import sampled_name, spread, step_of, step_within, without_step

SHOT = Shot(8, 48)
POINT = OperatingPoint(by_name("x264-ultrafast"), 160, 90, 40.0)
THIRD = sampled_name(V1, 3)


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> TitleSource:
    return open_title(tiny_title, tmp_path_factory.mktemp("sampled"))


def test_a_frame_with_a_score_has_the_score_of_a_full_measurement(
    source: TitleSource, tmp_path: Path
) -> None:
    (made,), _ = encode_shot(source.reference, SHOT, [POINT], tmp_path)
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
    encodes = [Distorted(whole, 160, 90)]

    def scored(*names: str) -> tuple[dict[str, tuple[float, ...]], tuple[str, ...]]:
        (one,), _ = measure(source.reference, SHOT.start, SHOT.end, encodes, names, tmp_path)
        return one.by_model, one.frame_hashes

    full, hashes = scored(V1, V0)
    some, again = scored(THIRD, sampled_name(V0, 3))
    assert again == hashes
    for name in (V1, V0):
        # Four context frames are before the shot, and libvmaf counts from the first of them.
        kept = {n: score for n, score in enumerate(full[name]) if (n + 4) % 3 == 0}
        assert some[sampled_name(name, 3)] == spread(kept, SHOT.frames)
    assert len(set(full[V1])) > len(set(some[THIRD])) > 5


def test_a_log_with_other_frames_is_refused() -> None:
    log = {"frames": [{"frameNum": n, "metrics": {THIRD: float(n)}} for n in range(0, 36, 3)]}
    scores = parse_log(log, [THIRD], Context(4, 4), 28)[THIRD]
    assert len(scores) == 28
    assert scores[:5] == (6.0, 6.0, 6.0, 6.0, 9.0)
    with pytest.raises(FrameMismatch, match="one in 3"):
        parse_log(log, [THIRD], Context(4, 4), 31)


def test_names_say_which_frames_have_a_score() -> None:
    assert f"{V1}+every3" == THIRD
    assert (step_of(THIRD), without_step(THIRD)) == (3, V1)
    assert (step_of(V1), sampled_name(THIRD, 1)) == (1, V1)
    mapped = f"{V1}+mobius1000+every3"
    assert models.name_for(THIRD, hdr=True) == mapped
    assert models.name_for(mapped, hdr=False) == THIRD
    assert models.plain_name(mapped) == V1
    assert models.similar_models(mapped) == (f"{V1}+mobius1000", V1)
    assert models.beside(mapped, V0) == f"{V0}+mobius1000+every3"
    assert models.beside(THIRD, "xpsnr") == "xpsnr"  # judges score every frame
    assert list(models.by_step((V1, "ssim", sampled_name(V0, 5)))) == [
        (V1, "ssim"),
        (sampled_name(V0, 5),),
    ]
    assert list(models.by_step(())) == []
    assert models.typical_cpu_seconds(THIRD, 640, 360, 50) < 0.7 * models.typical_cpu_seconds(
        V1, 640, 360, 50
    )


def test_scores_of_some_frames_have_keys_of_their_own(source: TitleSource) -> None:
    keys = {score_key(source, SHOT, POINT, name) for name in (V1, THIRD, sampled_name(V1, 5))}
    assert len(keys) == 3


def test_one_call_scores_the_same_frames_by_all_models(source: TitleSource) -> None:
    files = [Path("log")], [Path("hashes")]
    encodes = [Distorted(Path("whole.mp4"), 160, 90)]
    for names in ([V1], [THIRD]):
        command = score_command(source.reference, 8, 48, encodes, names, *files).shell()
        assert ("n_subsample=3" in command) == (names == [THIRD])
    with pytest.raises(ValueError, match="same frames"):
        score_command(source.reference, 8, 48, encodes, [V1, sampled_name(V0, 3)], *files)


def test_short_shots_keep_enough_scores_and_the_step_stays_odd() -> None:
    assert [step_within(5, frames) for frames in (1, 8, 23, 24, 39, 40, 500)] == [
        *(1, 1, 1, 3, 3, 5, 5)
    ]


def test_even_steps_are_refused(tmp_path: Path) -> None:
    """They meet the same kind of B picture again and again."""
    asked = RunOptions(tmp_path / "title.mp4", tmp_path / "out")
    for every in (0, 2, 4, 11):
        with pytest.raises(BadInput, match=f"--measure-every is {every}; .* odd number"):
            LadderRequest.of(replace(asked, measure_every=every))
    own = replace(load_profile("default"), name="ours", measure_every=4)
    with pytest.raises(BadInput, match="measure_every of the profile ours is 4"):
        LadderRequest.of(replace(asked, profile=own))


def test_profiles_that_measure_every_frame_are_what_they_were() -> None:
    default = load_profile("default")
    assert default.measure_every == 1
    assert profile_sha256(replace(default, measure_every=3)) != profile_sha256(default)
    with pytest.raises(BadInput, match="measure_every is 'often'"):
        replace(default, measure_every="often")  # type: ignore[arg-type]


def test_a_run_on_some_frames_says_so_and_trains_nothing(
    small_run: SmallRun, tmp_path: Path
) -> None:
    again = small_run.copied(tmp_path)
    before = records(again.store, "labels")
    made = run_inline(
        again.source, tmp_path / "some", again.store, heights=SMALL_HEIGHTS, measure_every=3
    )
    assert made.ladder.quality_model.endswith("+every3")
    assert all(list(rung.quality) == [made.ladder.quality_model] for rung in made.ladder.rungs)
    assert records(again.store, "labels") == before
    assert made.run["options"]["measure_every"] == 3
    shown = called("ladder", "show", tmp_path / "some").stdout
    assert "over one frame in 3" in " ".join(shown.split())
    with pytest.raises(BadInput, match="one frame in 3"):
        add_packages([tmp_path / "some"], tmp_path / "table.parquet", lambda event: None)
    # Without the option, nothing of it is used.
    run_inline(again.source, tmp_path / "full", again.store, heights=SMALL_HEIGHTS)
    assert contents(tmp_path / "full") == contents(again.out)
