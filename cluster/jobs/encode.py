"""One file of one quality: the shots of a title at equal slope, in an MP4 or a Matroska file.

:func:`encode_title` searches a ladder of one rung at the size of the source, raises or lowers the
quality that it asks for until the pooled scores of all frames are what the user asked for, and
writes the rung as one file. Encodes and scores are those of ladders, in the same store, so that a
command that was stopped goes on, and a ladder of the title finds them.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cluster import events
from cluster.execution.executor import Executor, call_with_retries
from cluster.jobs.deliver import compare_with_source
from cluster.jobs.opening import OpenedTitle, opened_title
from cluster.jobs.recipe_check import check_recipes
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import CodecSetup, set_up
from cluster.jobs.single_crf import SingleCrf, compare_with_single_crf
from cluster.jobs.solve import SolvedCodec, solve
from cluster.package.assemble import (
    ChosenRung,
    document_rungs,
    encodes_quality,
    verify_directory,
    write_media,
)
from cluster.package.publish import publishing_file
from cluster.package.single_file import Written, write_single_file
from cluster.stages.encodes import MeasuredEncode
from cluster.stages.measurer import Measurer
from cluster.stages.title import TitleSource
from cluster.stages.tracks import audio_tracks, subtitle_tracks
from cluster.store import Store
from cluster.store.place import store_place
from encoder.errors import BadInput, OutputUnwritable
from encoder.package.progressive import format_of
from ladder.document import Quality
from ladder.profiles import Profile, as_profile

POOLINGS = ("mean", "harmonic-mean", "p5")
"""How the scores of all frames become one number; ``p5`` is their 5th percentile."""
SOUND_CHOICES = ("copy", "aac", "none")
"""``copy`` takes the source's bits where that is possible, ``aac`` encodes as packages do."""
TOLERANCE = 0.1
"""Points below the quality that is asked for at which it counts as reached."""
OVERSHOOT = 0.3
"""Points above it from which a lower goal is tried."""
_NARROW = 0.2
"""Difference of two goals between which no other is tried."""
_MAX_ROUNDS = 8
_LOWEST_RATE = 1000.0
"""Rate in bit/s below which no file is looked for."""
_NAME = "film"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeRequest:
    """What a user asks of one file."""

    quality: float
    """Pooled VMAF of the file, 0 to 100."""
    pooling: str = "mean"
    sound: str = "copy"
    subtitles: bool = True
    compare: bool = False
    """True to encode the whole title at single CRFs too, and say what was saved."""

    def check(self) -> None:
        """Check the values.

        Raises:
            BadInput: one of them means nothing.
        """
        if not 1 <= self.quality < 100:
            raise BadInput(f"--vmaf is {self.quality:g}; give a VMAF from 1 to 99.9")
        if self.pooling not in POOLINGS:
            raise BadInput(f"no pooling {self.pooling!r}; choose one of {', '.join(POOLINGS)}")
        if self.sound not in SOUND_CHOICES:
            raise BadInput(f"no sound {self.sound!r}; choose one of {', '.join(SOUND_CHOICES)}")


@dataclass(frozen=True, slots=True)
class EncodedTitle:
    """A file that was made."""

    out: Path
    file: Written
    recipe: str
    quality_model: str
    quality: Quality
    """Pooled over all frames of the file."""
    reached: bool
    """False where no encode within the limits has the quality that was asked for."""
    video_bits: int
    seconds: Fraction
    crfs: tuple[float, float]
    """Lowest and highest CRF of the shots."""
    shots: int
    notes: tuple[str, ...]
    """What limited the file, in words."""
    single_crf: SingleCrf | None
    """The best single CRF of the same quality; None unless it was asked for."""

    @property
    def rate(self) -> float:
        """Average rate of the video in bit/s."""
        return float(self.video_bits / self.seconds)


@dataclass(frozen=True, slots=True)
class _Reached:
    solved: SolvedCodec
    encodes: list[MeasuredEncode]
    quality: Quality

    @property
    def bits(self) -> int:
        return sum(8 * encode.num_bytes for encode in self.encodes)


def encode_title(
    options: RunOptions,
    asked: EncodeRequest,
    on_event: events.Listener,
    executor: Executor | None = None,
) -> EncodedTitle:
    """Encode the title at ``options.source`` into the file ``options.out``.

    The file appears when it has been decoded and compared with what was scored and with its source.

    Raises:
        BadInput: an option cannot be satisfied, the file exists, or its folder cannot be written.
        Infeasible: no encode keeps the limits that were asked for.
        ToolFailed, VerificationFailed, StoreUnusable: the job failed; what was finished is kept.
    """
    asked.check()
    out = options.out
    format_of(out)
    _check_place(out)
    options = _for_one_rung(options, asked.quality)
    request = LadderRequest.of(options)
    if len(request.recipes) != 1:
        raise BadInput("a file has one codec; name one with --codec")
    request.check_encoders()
    place = store_place(options.store)
    with opened_title(request, place, _not_recorded, on_event, executor) as opened:
        setups = set_up(opened.request, opened.title, opened.store, opened.executor, on_event)
        measurer = Measurer(opened.title, (setups[0].quality_model,), opened.store,
                            opened.executor, on_event)  # fmt: skip
        setup = check_recipes(opened.request, setups, measurer).setups[0]
        reached = _search(setup, measurer, asked)
        measurer.ensure_intact(_requests(reached.solved), stage="again")
        written = _write(opened, reached, asked, measurer)
        compared = None
        if asked.compare:
            compared = compare_with_single_crf(
                setup, measurer, reached.encodes, lambda quality: _value(quality, asked.pooling)
            )
    chosen = reached.solved.plan.rungs[-1]
    return EncodedTitle(
        out=out,
        file=written,
        recipe=setup.recipe.name,
        quality_model=setup.quality_model,
        quality=reached.quality,
        reached=_value(reached.quality, asked.pooling) >= asked.quality - TOLERANCE,
        video_bits=reached.bits,
        seconds=opened.title.reference.frames / opened.title.reference.frame_rate,
        crfs=(min(e.point.crf for e in reached.encodes), max(e.point.crf for e in reached.encodes)),
        shots=len(reached.encodes),
        notes=(*reached.solved.plan.notes, *chosen.notes),
        single_crf=compared,
    )


def _check_place(out: Path) -> None:
    """Find out before anything is encoded whether the file can be written."""
    try:
        if out.exists():
            raise BadInput(f"{out} exists; delete it, or name another file")
        if not out.parent.is_dir():
            raise BadInput(f"{out.parent} is not a folder; create it, or name another file")
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".encode-") as name:
            (Path(name) / out.name).touch()
    except OSError as error:
        raise OutputUnwritable(
            f"{out} cannot be written ({error.strerror}); name a file in a folder that you may "
            "write"
        ) from error


def _for_one_rung(options: RunOptions, quality: float) -> RunOptions:
    """Return the options of a ladder of one rung, at the size of the source.

    Peaks of single shots and the lowest rate of a ladder are no concern of a file; limits that the
    user asked for stay.
    """
    profile = as_profile(options.profile)
    lowest = (_LOWEST_RATE, profile.first_rate[1])
    changes: dict[str, Any] = {
        "profile": replace(profile, name=f"{profile.name}-of-one-file", first_rate=lowest),
        "qualities": (quality,),
        "native_top": True,
    }
    if options.peak_ratio is None:
        changes["peak_ratio"] = 0.0
    if options.max_quality is None:
        changes["max_quality"] = _highest_goal(profile, quality)
    return replace(options, **changes)


def _highest_goal(profile: Profile, quality: float) -> float:
    """Return up to which mean quality the search may go."""
    return min(max(profile.max_quality, (quality + 100) / 2), 99.9)


@contextlib.contextmanager
def _not_recorded(options: RunOptions, source: TitleSource, store: Store) -> Iterator[None]:
    """Keep no manifest: those are about packages."""
    yield


def _search(setup: CodecSetup, measurer: Measurer, asked: EncodeRequest) -> _Reached:
    """Return the smallest encodes that were found to reach the quality, or else the best."""
    goal: float | None = asked.quality
    found = list[_Reached]()
    reached = dict[float, float]()
    ceiling = _highest_goal(setup.profile, asked.quality)
    while goal is not None and len(found) < _MAX_ROUNDS:
        solved = solve(replace(setup, profile=replace(setup.profile, qualities=(goal,))), measurer)
        encodes = [measurer.measured_encode(request) for request in _requests(solved)]
        found.append(_Reached(solved, encodes, encodes_quality(encodes, setup.quality_model)))
        reached[goal] = _value(found[-1].quality, asked.pooling)
        goal = next_goal(reached, asked.quality, ceiling)
    enough = [one for one in found
              if _value(one.quality, asked.pooling) >= asked.quality - TOLERANCE]  # fmt: skip
    if enough:
        return min(enough, key=lambda one: one.bits)
    return max(found, key=lambda one: _value(one.quality, asked.pooling))


def next_goal(reached: Mapping[float, float], wanted: float, ceiling: float) -> float | None:
    """Return the mean quality to search next for a pooled quality, or None to stop.

    Args:
        reached: pooled quality by the mean quality that was searched, of at least one search.
        wanted: the pooled quality that is asked for.
        ceiling: mean quality up to which there is a point in searching.
    """
    last = list(reached)[-1]
    if -TOLERANCE <= reached[last] - wanted <= OVERSHOOT:
        return None
    low = max((goal for goal, value in reached.items() if value < wanted - TOLERANCE), default=None)
    high = min((goal for goal, value in reached.items() if value >= wanted - TOLERANCE),
               default=None)  # fmt: skip
    if low is None or high is None:
        steepness = 1.0
        if len(reached) > 1:
            before = list(reached)[-2]
            steepness = max((reached[last] - reached[before]) / (last - before), 0.2)
        goal = min(max(last + (wanted - reached[last]) / steepness, 1.0), ceiling)
        return None if goal in reached else goal
    if high - low < _NARROW:
        return None
    share = (wanted - reached[low]) / (reached[high] - reached[low])
    return low + min(max(share, 0.15), 0.85) * (high - low)


def _requests(solved: SolvedCodec) -> list[Any]:
    return solved.requests[-1]


def _value(quality: Quality, pooling: str) -> float:
    return float(getattr(quality, pooling.replace("-", "_")))


def _sound(opened: OpenedTitle[None], asked: EncodeRequest) -> str:
    """Return what is done with the sound: what the user says of its encode rules out a copy."""
    decided = asked.sound == "copy" and not opened.request.sound.is_default
    return "aac" if decided else asked.sound


def _write(
    opened: OpenedTitle[None], reached: _Reached, asked: EncodeRequest, measurer: Measurer
) -> Written:
    """Write the file beside its place, check it, and put it there."""
    title, store, out = opened.title, opened.store, opened.request.options.out
    rung = ChosenRung(
        name=_NAME,
        recipe=reached.solved.setup.recipe,
        slope=reached.solved.plan.rungs[-1].slope,
        predicted_quality=None,
        encodes=tuple(reached.encodes),
    )
    with events.stage(measurer.on_event, "file", 1, unit="files"):
        audio = call_with_retries(audio_tracks, title, store, opened.request.sound)
        texts = call_with_retries(subtitle_tracks, title, store) if asked.subtitles else []
        with publishing_file(out) as made:
            folder = made.parent / "package"
            written = write_media(title, [rung], audio, texts, store, folder)
            (document,) = document_rungs([rung], written)
            rate = title.reference.frame_rate
            call_with_retries(verify_directory, folder, [document], rate)
            compare_with_source(folder, [document], measurer)
            file = write_single_file(folder, document, title.reference, made, _sound(opened, asked),
                                     pixel_format=rung.recipe.pixel_format)  # fmt: skip
    return file
