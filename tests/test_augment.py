from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from encoder.analysis.features import FeatureExtractor
from encoder.analysis.frames import feed, small_frames
from encoder.augment import AUGMENTATIONS, augment, augment_command
from encoder.errors import BadInput
from encoder.ffmpeg import Command, run
from encoder.media import Shot
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource

FRAMES, RATE = 24, Fraction(24)


def clip(folder: Path, *output: str, size: str = "256x144", rate: str = "24") -> ReferenceSource:
    """A second of a camera moving over a still, with a little grain."""
    path = folder / "clip.mkv"
    graph = (
        f"gradients=size=800x400:rate={rate}:c0=#103018:c1=#90c090:n=2:seed=5:speed=0.00001,"
        "format=yuv420p,trim=end_frame=1,noise=alls=100:all_seed=11,gblur=3,loop=-1:1,"
        f"setpts=N/({rate})/TB,crop={size.replace('x', ':')}:x=3*n:y=100,trim=end_frame={FRAMES},"
        "noise=alls=4:allf=t:all_seed=3"
    )
    ended = ["-c:v", "ffv1", "-threads", "1", str(path)]
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, *output, *ended]))
    return plan_source(path, folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    return clip(tmp_path_factory.mktemp("augment"))


def features(source: ReferenceSource) -> dict[str, float]:
    extractor = FeatureExtractor(Fraction(4))  # every frame
    feed(small_frames(source), extractor)
    return dict(extractor.shots([Shot(0, source.frames)])[0].as_dict())


@pytest.fixture(scope="module")
def plain(source: ReferenceSource) -> dict[str, float]:
    return features(source)


def made(source: ReferenceSource, name: str, folder: Path, frames: int = FRAMES) -> ReferenceSource:
    path = folder / "made.mp4"
    assert augment(source, name, 0, frames, path) > 0
    return plan_source(path, folder)


@pytest.mark.parametrize(
    ("name", "size", "frames", "rate"),
    [
        ("crop", (158, 90), 24, 24),
        ("zoom", (256, 144), 24, 24),
        ("small", (170, 96), 24, 24),
        ("reframe", (80, 144), 24, 24),
        ("fast", (256, 144), 12, 24),
        ("halfrate", (256, 144), 12, 12),
        ("grain", (256, 144), 24, 24),
        ("denoise", (256, 144), 24, 24),
        ("soft", (256, 144), 24, 24),
        ("dark", (256, 144), 24, 24),
    ],
)
def test_each_makes_a_title(
    name: str,
    size: tuple[int, int],
    frames: int,
    rate: int,
    source: ReferenceSource,
    tmp_path: Path,
) -> None:
    title = made(source, name, tmp_path)
    assert (title.width, title.height) == size
    assert (title.frames, title.frame_rate) == (frames, rate)
    assert title.timeline.constant
    assert title.color_matrix == source.color_matrix


def test_all_are_tested() -> None:
    (mark,) = test_each_makes_a_title.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == set(AUGMENTATIONS)


@pytest.mark.parametrize(
    ("name", "measure", "low", "high"),
    [
        ("zoom", "sharpness", 0.0, 0.8),
        ("zoom", "motion", 1.6, 2.4),
        ("fast", "motion", 1.6, 2.4),
        ("halfrate", "motion", 1.6, 2.4),
        ("grain", "noise_fine", 1.8, 9.0),
        ("denoise", "noise_fine", 0.0, 0.8),
        ("soft", "texture_fine", 0.0, 0.8),
        ("dark", "luma", 0.3, 0.7),
        ("dark", "contrast", 0.35, 0.55),
    ],
)
def test_what_is_made_differs_as_it_says(
    name: str,
    measure: str,
    low: float,
    high: float,
    source: ReferenceSource,
    plain: dict[str, float],
    tmp_path: Path,
) -> None:
    found = features(made(source, name, tmp_path))
    assert low < found[f"{measure}_mean"] / plain[f"{measure}_mean"] < high


def test_the_same_again_is_the_same_bytes(source: ReferenceSource, tmp_path: Path) -> None:
    for name in ("grain", "halfrate"):
        for again in ("one", "other"):
            augment(source, name, 3, 20, tmp_path / again)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
        augment(source, name, 4, 20, tmp_path / "other")
        assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_near_lossless(source: ReferenceSource, plain: dict[str, float], tmp_path: Path) -> None:
    """What an intermediate's coding does to a title is little next to what we measure on it."""
    tall = clip(tmp_path, size="144x256")
    shape = features(made(tall, "reframe", tmp_path))
    for measure in ("noise_fine", "texture_fine"):
        assert shape[f"{measure}_mean"] == pytest.approx(plain[f"{measure}_mean"], rel=0.2)


def test_10_bits_stay(tmp_path: Path) -> None:
    title = made(clip(tmp_path, "-pix_fmt", "yuv420p10le"), "dark", tmp_path)
    assert title.pix_fmt == "yuv420p10le"


@pytest.mark.parametrize(
    ("name", "size", "rate", "frames", "said"),
    [
        ("crop", "96x54", "24", 24, "too small"),
        ("halfrate", "256x144", "8", 24, "fall under 5 fps"),
        ("fast", "256x144", "24", 1, "1 frames are too few"),
        ("sepia", "256x144", "24", 24, "no augmentation is called 'sepia'; choose one of crop, "),
    ],
)
def test_what_makes_no_sense_is_said(
    name: str, size: str, rate: str, frames: int, said: str, tmp_path: Path
) -> None:
    title = clip(tmp_path, size=size, rate=rate)
    with pytest.raises(BadInput, match=said):
        augment_command(title, name, 0, frames, tmp_path / "made.mp4")
