"""The command line that makes a ladder: ``shotladder run`` and options that are no defaults."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from cluster.jobs.request import LadderOptions

NAMED_RATES = ("rates", "max_rate", "viewers", "audio_rates")
"""Options that are rates in bit/s, or lists of them."""


def run_command(
    options: LadderOptions, profile: str | Path, source: Path, out: Path
) -> tuple[str, ...]:
    """Return the words of a command line.

    Args:
        options: What decides the package.
        profile: Name of the profile, or path of its file.
        source: The source.
        out: Folder for the package.
    """
    words = ["shotladder", "run", str(source), "--out", str(out)]
    if str(profile) != "default":
        words += ["--profile", str(profile)]
    for field in fields(LadderOptions):
        value = getattr(options, field.name)
        if field.name != "profile" and value != field.default:
            words += _option(field.name, value)
    return tuple(words)


def _option(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    if name in ("also", "encoder_params"):
        return [word for each in value for word in (flag, each)]
    return [flag, _word(name, value)]


def _word(name: str, value: Any) -> str:
    if name == "size_limits":
        return ",".join(f"{_rate(rate)}={lines}" for rate, lines in value)
    if name == "viewers" and isinstance(value, tuple) and isinstance(value[0], tuple):
        return ",".join(f"{_rate(end)}={share:g}" for end, share in value)
    if name == "device_lines":
        return ",".join(f"{lines}={share:g}" for lines, share in value)
    if name == "split_at":
        return ",".join(_cue(*row) for row in value)
    if name == "rung_count":
        fewest, most = value
        return f"{fewest}" if fewest == most else f"{fewest}-{most}"
    if name == "merge_within":
        return ",".join(f"{each:g}" for each in value) or "off"
    if isinstance(value, tuple):
        return ",".join(_word(name, each) for each in value)
    if name in NAMED_RATES and isinstance(value, float | int):
        return _rate(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cue(time: float, duration: float = 0.0, name: str = "") -> str:
    """Return a cue as ``--split-at`` reads it: ``ID@TIME+DURATION``."""
    return (f"{name}@" if name else "") + f"{time!r}" + (f"+{duration!r}" if duration else "")


def _rate(rate: float) -> str:
    """Return a rate as the command line reads it back, to the bit/s."""
    if rate and rate % 100_000 == 0 and rate >= 1e6:
        return f"{rate / 1e6:g}M"
    return f"{rate / 1e3:g}k" if rate and rate % 100 == 0 and rate < 1e9 else f"{rate:.0f}"
