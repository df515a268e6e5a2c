"""ffmpeg calls that encode, join and measure sound, as pure values.

Time 0 of every graph is the title's first picture. The calls keep the container's own timestamps
(``-copyts``), so that sound is placed by them and not by what was decoded before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from encoder.ffmpeg import PATIENT_OPTIONS, SOURCE_OPTIONS, Command, as_arguments
from encoder.package.audio_jumps import STEP_SECONDS
from encoder.package.sound_choices import SOUND_CODECS

SAMPLE_RATE = 48_000
"""Sample rate of all audio in packages, Hz."""
BIT_RATE = SOUND_CODECS["aac"].stereo_rate
"""Bitrate of stereo AAC, bit/s."""
SURROUND_BIT_RATE = SOUND_CODECS["aac"].surround_rate
"""Bitrate of 5.1 AAC, bit/s."""
MONO, STEREO, SURROUND = "mono", "stereo", "5.1"
CHANNELS = {STEREO: ("FL", "FR"), SURROUND: ("FL", "FR", "FC", "LFE", "BL", "BR")}
"""Channels of the layouts that packages have, by ffmpeg's names and in its order."""

_QUIET = ("-hide_banner", "-nostats", "-v", "info", "-y", "-copyts")
_PEAK = "astats@mix=measure_perchannel=none:measure_overall=Peak_level"
_PEAKS = "astats@parts=measure_perchannel=Peak_level:measure_overall=none"
# ffmpeg would lower a single channel by 3 dB. The graph is made anew where the layout changes.
_MONO_STAYS = r"volume=volume=if(eq(nb_channels\,1)\,sqrt(2)\,1):precision=float"
# ffmpeg would make a single channel of two that are alike 3 dB louder.
_PAIR_STAYS = r"volume=volume=if(eq(nb_channels\,2)\,sqrt(0.5)\,1):precision=float"
# To the millisecond, so that stretches of other formats begin at their own times.
_EARLY_SECONDS, _LATE_SECONDS = 3600, 1
_EXACT = ":min_hard_comp=0.001"
_STEPWISE = ":min_hard_comp=0.015"


@dataclass(frozen=True, slots=True)
class Part:
    """Where one part of a sound comes from."""

    path: Path
    stream: int
    """Index of the stream in the file."""
    channel: int | None = None
    """Channel of the stream, counted from 0; None takes the stream as it is."""
    repair: tuple[str, ...] = ()
    """Filters that mend timestamps which jump (:mod:`encoder.package.audio_jumps`)."""
    stepwise: bool = False
    """True where timestamps make small steps that the sound has to follow."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound of a title: a stream, or several parts of one channel each that belong together."""

    parts: tuple[Part, ...]
    layout: str | None = None
    """Key of :data:`CHANNELS` that the parts make up, in its order; None for a single part."""
    channels: int | None = None
    """Channels of a single stream, where known. A single channel goes to both sides unchanged, as
    players play it."""
    steady: bool = False
    """True where the parts were made by :func:`steady_command`."""

    @property
    def width(self) -> int:
        """Number of channels that are mixed."""
        return len(CHANNELS[self.layout]) if self.layout else self.channels or 0


@dataclass(frozen=True, slots=True)
class Level:
    """What is done to the level of a mix."""

    lower_db: float = 0.0
    """Decibels by which the mix is lowered."""
    filters: tuple[str, ...] = ()
    """Filters that bring it to a loudness (:mod:`encoder.package.loudness`)."""


UNCHANGED = Level()
"""The level that a mix has."""


def audio_command(
    sound: Sound,
    out: Path,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    bit_rate: int = BIT_RATE,
    surround: bool = False,
    level: Level = UNCHANGED,
    codec: str = "aac",
) -> Command:
    """Build the call that encodes a sound to fragmented MP4.

    Args:
        sound: What to encode.
        out: File to write.
        first_video_pts: Presentation time of the title's first picture in the files, seconds.
        duration: Duration of the title, seconds.
        bit_rate: Bitrate in bit/s.
        surround: Whether to encode 5.1 instead of stereo.
        level: What is done to its level.
        codec: Key of :data:`encoder.package.sound_choices.SOUND_CODECS`.
    """
    layout = SURROUND if surround else STEREO
    inputs, source, placed = _placed(sound, first_video_pts, duration, layout)
    lower_db, coded = level.lower_db, SOUND_CODECS[codec]
    mixed = sound.width > len(CHANNELS[layout]) or sound.steady
    filters = [
        *placed,
        *([_PEAK] if mixed else []),
        *([f"volume=volume=-{lower_db:.1f}dB:precision=float"] if lower_db else []),
        *level.filters,
        "volumedetect",
        "apad",
        f"atrim=end_sample={round(duration * SAMPLE_RATE)}",
    ]
    return Command.of(
        [
            *_QUIET,
            *inputs,
            *_mapped(source, filters),
            *("-c:a", coded.encoder, "-b:a", bit_rate),
            *(coded.surround_options if surround else ()),
            *("-threads", 1),
            *("-fflags", "+bitexact", "-flags:a", "+bitexact"),
            *("-movflags", "+cmaf+delay_moov", "-frag_duration", 10_000_000, "-f", "mp4", out),
            *([] if sound.steady else _jumps(sound)),
            *_lfe(sound),
        ]
    )


def steady_command(
    part: Part,
    out: Path,
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    layout: str,
) -> Command:
    """Build the call that decodes a part of which the format changes to PCM of one format.

    ffmpeg makes the graph anew at every change, so the graph has only filters to which that makes
    no difference: every stretch is mixed by itself and begins at its own timestamp. ``ashowinfo``
    tells each stretch.
    """
    filters = _steady(part, first_video_pts, duration, layout)
    return Command.of(
        [
            *_QUIET,
            *_input(part.path),
            *_mapped(f"0:{part.stream}", filters),
            *("-c:a", "pcm_f32le", "-f", "nut", out),
            *_told(part, first_video_pts),
        ]
    )


def listen_command(
    sound: Sound, *, first_video_pts: Fraction, duration: Fraction, surround: bool = False
) -> Command:
    """Build the call that measures the mix of a sound and writes nothing."""
    layout = SURROUND if surround else STEREO
    if sound.layout is None:
        (part,) = sound.parts
        source = f"0:{part.stream}"
        inputs, placed = _input(part.path), _steady(part, first_video_pts, duration, layout)
    else:
        inputs, source, placed = _placed(sound, first_video_pts, duration, layout)
    measured = [*placed, _PEAK, "volumedetect"]
    told = _told(sound.parts[0], first_video_pts) if sound.layout is None else []
    return Command.of(
        [
            *(*_QUIET, *inputs, *_mapped(source, measured), "-f", "null", "-"),
            *(*told, *_jumps(sound), *_lfe(sound)),
        ]
    )


def loudness_command(
    sound: Sound,
    filters: Sequence[str],
    *,
    first_video_pts: Fraction,
    duration: Fraction,
    surround: bool = False,
) -> Command:
    """Build the call that measures the mix of a sound by ``filters`` and writes nothing."""
    layout = SURROUND if surround else STEREO
    inputs, source, placed = _placed(sound, first_video_pts, duration, layout)
    return Command.of([*_QUIET, *inputs, *_mapped(source, [*placed, *filters]), "-f", "null", "-"])


def formats_command(parts: Sequence[Part], first_video_pts: Fraction) -> Command:
    """Build the call that tells the formats of streams of one file, and writes nothing."""
    told = [argument for part in parts for argument in _told(part, first_video_pts)]
    return Command.of([*_QUIET, *_input(parts[0].path), *told])


def stamps_command(part: Part) -> Command:
    """Build the call that tells the timestamp and the length of every frame of a part."""
    filters = ["ashowinfo@stamp"]
    return Command.of([*_QUIET, *_input(part.path), *_mapped(f"0:{part.stream}", filters),
                       "-f", "null", "-"])  # fmt: skip


def peak_command(path: Path, measured: str = _PEAK) -> Command:
    """Build the call that measures the peak of encoded sound, as a player decodes it, or what the
    filter ``measured`` does."""
    return Command.of([*_QUIET, "-i", path, "-af", measured, "-f", "null", "-"])


def _steady(part: Part, first_video_pts: Fraction, duration: Fraction, layout: str) -> list[str]:
    """Return filters that lose nothing but a few samples where they are made anew."""
    return [
        *part.repair,
        *_one_channel(part),
        *_shifted(first_video_pts, duration),
        *([_MONO_STAYS] if layout == STEREO else []),
        *([_PAIR_STAYS] if layout == MONO else []),
        f"aresample={SAMPLE_RATE}:async=1:osf=flt:ochl={layout}{_STEPWISE * part.stepwise}",
        f"atrim=start_pts=0:end_pts={round(duration * SAMPLE_RATE)}",
    ]


def _placed(
    sound: Sound, first_video_pts: Fraction, duration: Fraction, layout: str
) -> tuple[list[str | Path], str, list[str]]:
    """Return the inputs, the name of the graph's source, and filters that place and mix sound."""
    exact = [_EXACT if sound.steady else _STEPWISE * part.stepwise for part in sound.parts]
    if sound.layout is None:
        (part,) = sound.parts
        sides = part.channel if part.channel is not None else 0
        single = part.channel is not None or (sound.channels == 1 and not sound.steady)
        filters = [
            *part.repair,
            *([f"pan=stereo|c0=c{sides}|c1=c{sides}"] if single else []),
            # Time 0 is the first video frame, in the container's own timestamps (-copyts).
            *_shifted(first_video_pts, duration),
            # Adds silence where audio begins later or has a hole, cuts where it begins earlier.
            # Mixes in floating point: from integers ffmpeg would lower a surround mix by 7 dB,
            # and its level would depend on the sample format of the source.
            f"aresample={SAMPLE_RATE}:async=1:first_pts=0:osf=fltp:ochl={layout}{exact[0]}",
        ]
        return _input(part.path), f"0:{part.stream}", filters
    paths = list(dict.fromkeys(part.path for part in sound.parts))
    chains = []
    for number, part in enumerate(sound.parts):
        filters = [
            *part.repair,
            *_one_channel(part),
            *_shifted(first_video_pts, duration),
            f"aresample={SAMPLE_RATE}:async=1:first_pts=0:osf=fltp:ochl=mono{exact[number]}",
            "apad",
            f"atrim=end_sample={round(duration * SAMPLE_RATE)}",
        ]
        where = f"[{paths.index(part.path)}:{part.stream}]"
        chains.append(f"{where}{','.join(filters)}[part{number}]")
    names = CHANNELS[sound.layout]
    labels = "".join(f"[part{number}]" for number in range(len(names)))
    channels = "|".join(f"{number}.0-{name}" for number, name in enumerate(names))
    join = f"join=inputs={len(names)}:channel_layout={sound.layout}:map={channels}"
    graph = ";".join([*chains, f"{labels}{join},{_PEAKS}"])
    mix = [f"aresample=osf=fltp:ochl={layout}"] if sound.layout != layout else []
    return [part for path in paths for part in _input(path)], graph, mix


def _mapped(source: str, filters: Sequence[str]) -> list[str | int]:
    """Return the arguments that select a stream or a graph of several, with the filters behind."""
    if "[" not in source:
        chosen = ["-map", source]
        filtering = ["-af", ",".join(filters)]
    else:
        chosen = ["-filter_complex", ",".join([source, *filters]) + "[out]", "-map", "[out]"]
        filtering = []
    return [*chosen, "-map_metadata", -1, "-map_chapters", -1, *filtering]


def _input(path: Path) -> list[str | Path]:
    return [*as_arguments(SOURCE_OPTIONS | PATIENT_OPTIONS), "-i", path]


def _one_channel(part: Part) -> list[str]:
    return [f"pan=mono|c0=c{part.channel}"] if part.channel is not None else []


def _shifted(first_video_pts: Fraction, duration: Fraction) -> list[str]:
    """Return filters that put the title's first picture at time 0.

    A frame whose timestamp is far from the title is dropped: silence up to it would replace all
    sound behind it.
    """
    latest = float(duration) + _LATE_SECONDS
    return [_zero(first_video_pts), rf"aselect=not(lt(t\,-{_EARLY_SECONDS})+gt(t\,{latest:.3f}))"]


def _zero(first_video_pts: Fraction) -> str:
    return f"asetpts=PTS-({first_video_pts.numerator}/{first_video_pts.denominator})/TB"


# Measurements are outputs of their own that write nothing. Branches of the main graph that end in
# anullsink would do, but for an assertion that they trip in ffmpeg now and then.


def _output(part: Part, filters: Sequence[str]) -> list[str]:
    number = f"0:{part.stream}"
    return ["-map", number, "-af", ",".join([*part.repair, *filters]), "-f", "null", "-"]


def _told(part: Part, first_video_pts: Fraction) -> list[str]:
    """Return an output that tells the first frame of every graph, which is one for each format."""
    return _output(part, [_zero(first_video_pts), r"aselect=eq(n\,0)", "ashowinfo@first"])


def _jumps(sound: Sound) -> list[str]:
    """Return outputs that tell each frame whose timestamp is not where its predecessor ends."""
    parts = {part.stream: part for part in sound.parts}.values()
    # Variable 0 holds the end of the predecessor, variable 1 the difference to it.
    difference = r"st(1\,abs(t-ld(0)))*0+st(0\,t+samples_n/sample_rate)*0"
    filters = [
        rf"aselect={difference}+gt(ld(1)\,{STEP_SECONDS})*gt(n\,0)",
        "ashowinfo@jump",
    ]
    return [argument for part in parts for argument in _output(part, filters)]


def _lfe(sound: Sound) -> list[str]:
    """Return an output that measures what an LFE, which ends at 120 Hz, has above 1 kHz."""
    if sound.layout != SURROUND or sound.steady:
        return []
    part = sound.parts[CHANNELS[SURROUND].index("LFE")]
    steep = ["highpass=f=1000:p=2"] * 2
    peak = "astats@lfe=measure_perchannel=none:measure_overall=Peak_level"
    return _output(part, [*_one_channel(part), *steep, peak])
