"""What a run is expected to encode and to take, from the predictions of its codecs.

The numbers are those of the shots of the setups. Where these are a sample, :class:`Expected` can be
scaled to the whole title. Nothing is encoded and nothing is looked up in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.jobs.setup import CodecSetup, infeasible
from encoder.media import Request
from encoder.package.sound_choices import SoundChoices
from encoder.recipes import expected_cpu_seconds, typical_cpu_seconds
from ladder.constraints import InfeasibleResult
from ladder.rungs import LadderPlan
from ladder.search.predict import PredictSearch
from vmaf import models

# Constants beside those of encoders and quality models, from runs of the generated titles of
# tests/film_growth.py and of titles of the training corpora.
_FURTHER, _FURTHER_SHOTS, _FURTHER_LEAST = 0.1, 6.0, 4.0
_PROCESSES = 0.7
"""Processes for each encode: encodes of a shot that are asked for in one round share one."""
_ENCODE_START, _SCORE_START = 0.2, 0.12
"""CPU seconds of starting a process that encodes, and one that scores."""
_DECODE_NS = 4.0
"""Nanoseconds for each pixel of the title that an encoding process decodes."""
_RUN_SECONDS, _ENCODE_CARE, _FRAME_CARE = 12.0, 0.08, 2.0e-3
"""CPU seconds of a run besides: once, for each encode, and for each frame of the title."""
_VERIFY_NS, _VERIFY_FRAME = 7.0, 1.0e-3
"""Nanoseconds for each pixel, and seconds for each frame of a rung, that is verified."""
_SOUND_SHARE = 0.03
"""CPU seconds for each second of a sound track."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Encodes, CPU time and bytes that are expected."""

    requests: tuple[Request, ...]
    """Encodes by shot, without those that a search asks for beyond what it delivers."""
    encodes: float
    """Number of encodes, with those."""
    encode_seconds: float
    """CPU seconds of encoders."""
    vmaf_seconds: float
    """CPU seconds of scoring."""
    care_seconds: float
    """CPU seconds of everything else that follows the encodes: keeping, verifying, describing."""
    delivered_bytes: float | None
    """Bytes of the package's video; None where nothing is predicted."""
    encoded_bytes: float
    """Bytes of all encodes."""
    shot_seconds: tuple[float, ...]
    """CPU seconds of each shot's encodes and scores."""

    def scaled(self, factor: float) -> Expected:
        """Return what is expected of a title ``factor`` times as long, without its requests."""
        delivered = self.delivered_bytes
        return Expected(
            requests=(),
            encodes=self.encodes * factor,
            encode_seconds=self.encode_seconds * factor,
            vmaf_seconds=self.vmaf_seconds * factor,
            care_seconds=self.care_seconds * factor,
            delivered_bytes=None if delivered is None else delivered * factor,
            encoded_bytes=self.encoded_bytes * factor,
            shot_seconds=self.shot_seconds,
        )


def expect(
    setups: Sequence[CodecSetup], title_shots: int, missing: Sequence[Request] | None = None
) -> Expected:
    """Return what is expected of the shots of the setups.

    Args:
        setups: Setups of all codecs of one title.
        title_shots: Shots of the whole title: in a long one, a smaller share of what is encoded is
            not delivered.
        missing: Those of the requests that the store lacks; None for all.

    Raises:
        Infeasible: no ladder satisfies the profile's constraints.
    """
    plans = [_plan(setup) for setup in setups]
    requests = tuple(
        sorted(
            {
                request
                for setup, plan in zip(setups, plans, strict=True)
                for request in (plan.points if plan else _grid(setup))
            }
        )
    )
    made = requests if missing is None else tuple(missing)
    by_recipe = {setup.recipe: setup for setup in setups}
    shots = setups[0].title.shots
    encode, vmaf = [0.0] * len(shots), [0.0] * len(shots)
    encoded_bits = 0.0
    for request in made:
        setup = by_recipe[request[1].recipe]
        encode[request[0]] += _encode_seconds(setup, request)
        vmaf[request[0]] += _vmaf_seconds(setup, request)
        encoded_bits += _bits(setup, request)
    predicts = setups[0].prediction is not None
    further = 1 + _further(title_shots) if predicts and made else 1.0
    delivered = [plan for plan in plans if plan is not None]
    verifying = sum(
        (1e-9 * _VERIFY_NS * choice.point.width * choice.point.height + _VERIFY_FRAME)
        * shots[shot].frames
        for plan in delivered
        for rung in plan.rungs
        for shot, choice in enumerate(rung.choices)
    )
    return Expected(
        requests=requests,
        encodes=len(made) * further,
        encode_seconds=sum(encode) * further,
        vmaf_seconds=sum(vmaf) * further,
        care_seconds=_ENCODE_CARE * len(made) * further + verifying,
        delivered_bytes=sum(rung.bits for plan in delivered for rung in plan.rungs) / 8
        if len(delivered) == len(setups)
        else None,
        encoded_bytes=encoded_bits * further / 8,
        shot_seconds=tuple(one + other for one, other in zip(encode, vmaf, strict=True)),
    )


def fixed_seconds(setup: CodecSetup) -> float:
    """Return the CPU seconds of a run that follow from the title's length alone, without those of
    the analysis.
    """
    reference = setup.title.reference
    seconds = float(reference.timeline.duration_seconds)
    streams = len(reference.info.audio)
    return _RUN_SECONDS + _FRAME_CARE * reference.frames + _SOUND_SHARE * seconds * streams


def stage_seconds(
    expected: Expected, setup: CodecSetup, slots: int, factors: Mapping[str, float]
) -> dict[str, float]:
    """Return how long each stage after the analysis is expected to take.

    Args:
        expected: What is still to be made.
        setup: Setup of any codec.
        slots: Number of tasks that run at once.
        factors: Corrections of ``encode``, ``vmaf`` and ``rest``.
    """
    frames = setup.title.reference.frames
    rest = factors["rest"]
    encoding = expected.encode_seconds * factors["encode"] + expected.vmaf_seconds * factors["vmaf"]
    return {
        "encode": encoding / slots,
        "artwork": rest * 1e-3 * frames,
        "package": rest * 0.1 * expected.care_seconds,
        "verify": rest * 0.9 * expected.care_seconds,
        "report": rest * (2.0 + 0.5e-3 * frames),
    }


def sound_bytes(setup: CodecSetup, sound: SoundChoices) -> float:
    """Return the bytes of a package's sound, if every track is kept, in stereo."""
    reference = setup.title.reference
    seconds = float(reference.timeline.duration_seconds)
    return len(reference.info.audio) * seconds * sound.bit_rate(surround=False) / 8


def _plan(setup: CodecSetup) -> LadderPlan | None:
    """Return the ladder that is predicted; None for a search that measures a grid."""
    if not isinstance(setup.search, PredictSearch):
        return None
    plan = setup.search.expected_plan(setup.known({}))
    if isinstance(plan, InfeasibleResult):
        raise infeasible(plan)
    return plan


def _grid(setup: CodecSetup) -> Sequence[Request]:
    return setup.search.expected_requests(setup.known({}))


def _further(shots: int) -> float:
    """Return the encodes that are not delivered over those that are."""
    return _FURTHER + _FURTHER_SHOTS / (shots + _FURTHER_LEAST)


def _bits(setup: CodecSetup, request: Request) -> float:
    """Return the bits of an encode: predicted, or those of natural video at x264 medium, about 0.1
    bit per pixel at CRF 24 and half as many every 5.5 steps."""
    shot, point = request
    frames = setup.title.shots[shot].frames
    expected = setup.prediction.expected(shot, point) if setup.prediction else None
    if expected is not None:
        return expected.bits_per_frame * frames
    return 0.1 * 2 ** ((24 - point.crf) / 5.5) * point.width * point.height * frames


def _encode_seconds(setup: CodecSetup, request: Request) -> float:
    shot, point = request
    frames, reference = setup.title.shots[shot].frames, setup.title.reference
    grid = setup.profile.crf_grid[point.recipe.codec]
    processes = _PROCESSES if setup.prediction else 1 / len(grid)
    decoding = 1e-9 * _DECODE_NS * reference.width * reference.height * frames + _ENCODE_START
    if setup.prediction is None:
        encoding = typical_cpu_seconds(point.recipe, *point.size, frames, point.crf)
    else:
        bits = _bits(setup, request)
        encoding = expected_cpu_seconds(point.recipe, *point.size, frames, bits)
    return encoding + processes * decoding


def _vmaf_seconds(setup: CodecSetup, request: Request) -> float:
    frames, reference = setup.title.shots[request[0]].frames, setup.title.reference
    size = reference.width, reference.height
    model = setup.quality_model
    return models.typical_cpu_seconds(model, *size, frames) + _PROCESSES * _SCORE_START
