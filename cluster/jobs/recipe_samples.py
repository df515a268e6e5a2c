"""What is encoded of a title to check its recipes.

The sample follows from the title's prediction alone, or, for a search that predicts nothing, from
cells that the search measures in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.jobs.setup import CodecSetup
from cluster.stages.measurer import Measurer
from encoder.media import OperatingPoint, Request
from encoder.recipes import Recipe
from ladder.recipe_check import Sample, heaviest, sample_at, sample_of_plan


def measured_bits(setup: CodecSetup, measurer: Measurer) -> dict[int, float]:
    """Return which shots carry most bits, by cells that a search without prediction measures in any
    case."""
    cells = _middle_cells(setup)
    measurer.measure(cells, stage="recipe check")
    bits: dict[int, float] = {}
    for cell in cells:
        bits[cell[0]] = bits.get(cell[0], 0.0) + measurer.known[cell].bits
    return bits


def samples_of(setups: Sequence[CodecSetup], bits: Mapping[int, float] | None) -> dict[str, Sample]:
    """Return what is encoded to check each codec: the same shots at the same size.

    Args:
        setups: Setups by codec, the first codec first.
        bits: Bits of each shot, where the first codec is not predicted.
    """
    first, *others = setups
    middle = _middle(first)
    if bits is None:
        plan = first.search.expected_requests(first.known({})) or _middle_cells(first)
        sample = sample_of_plan({r: _expected_bits(first, r) for r in plan}, middle)
    else:
        sample = Sample(first.sizes[-1], dict.fromkeys(heaviest(bits), middle))
    further = {one.recipe.codec: _further_sample(first, one, sample) for one in others}
    return {first.recipe.codec: sample} | further


def sample_requests(sample: Sample, recipe: Recipe) -> list[Request]:
    """Return the sample's encodes with a recipe: each shot's, by ascending CRF."""
    return [
        (shot, OperatingPoint(recipe, sample.size.width, sample.size.height, crf))
        for shot, crfs in sample.crfs.items()
        for crf in crfs
    ]


def _middle(setup: CodecSetup) -> tuple[float, float]:
    """Return two neighbouring CRFs in the middle of what a search without a plan measures."""
    if setup.prediction is None:
        requests = setup.search.expected_requests(setup.known({}))
        grid: Sequence[float] = sorted({point.crf for _, point in requests})
    else:
        grid = setup.profile.crf_grid[setup.recipe.codec]
    upper = max(1, len(grid) // 2)
    return grid[upper - 1], grid[min(upper, len(grid) - 1)]


def _further_sample(first: CodecSetup, other: CodecSetup, sample: Sample) -> Sample:
    """Return the sample at those CRFs of another codec that are to be compared with the first's."""
    if first.prediction is not None and other.prediction is not None:
        return _of_equal_quality(first, other, sample)
    plan = other.search.expected_requests(other.known({}))
    return sample_at(plan, tuple(sample.crfs), sample.size, _middle(other))


def _of_equal_quality(first: CodecSetup, other: CodecSetup, sample: Sample) -> Sample:
    """Return the sample at those CRFs of another codec that are expected to look alike."""
    crfs = {
        shot: tuple(_alike(first, other, sample, shot, crf) for crf in pair)
        for shot, pair in sample.crfs.items()
    }
    distinct = {shot: pair for shot, pair in crfs.items() if pair[0] < pair[1]}
    return Sample(sample.size, dict.fromkeys(crfs, _middle(other)) | distinct)


def _alike(first: CodecSetup, other: CodecSetup, sample: Sample, shot: int, crf: float) -> float:
    """Return the CRF of ``other`` whose predicted quality is next to that of ``first``."""
    wanted = _expected_quality(first, (shot, OperatingPoint(first.recipe, *sample.size, crf)))
    scale: list[float] = other.prediction.scale.crfs.tolist() if other.prediction else []
    return min(
        scale,
        key=lambda own: abs(
            _expected_quality(other, (shot, OperatingPoint(other.recipe, *sample.size, own)))
            - wanted
        ),
    )


def _expected_quality(setup: CodecSetup, request: Request) -> float:
    expected = setup.prediction.expected(*request) if setup.prediction else None
    return expected.quality if expected else 0.0


def _middle_cells(setup: CodecSetup) -> list[Request]:
    """Return every shot at the title's own size, at the CRFs in the middle."""
    return [
        (shot, OperatingPoint(setup.recipe, *setup.sizes[-1], crf))
        for shot in range(len(setup.title.shots))
        for crf in _middle(setup)
    ]


def _expected_bits(setup: CodecSetup, request: Request) -> float:
    """Return the predicted bits of an encode."""
    shot, point = request
    expected = setup.prediction.expected(shot, point) if setup.prediction else None
    return expected.bits_per_frame * setup.title.shots[shot].frames if expected else 0.0
