"""The options of a job in JSON: those of :mod:`cluster.jobs.options`, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cluster.jobs.options import DEFAULTS, NOT_OF_JOBS, meaning_of
from cluster.service.exact import IS_NUMBER, Flag
from cluster.service.wording import IN_WORDS

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Codecs = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64}){0,7}$")]
ProfileContent = Annotated[dict[str, Any], Field(min_length=1, max_length=50)]
Height = Annotated[int, Field(ge=2, le=16384), IS_NUMBER]

Rate = Annotated[float, Field(gt=0, le=1e12), IS_NUMBER]
Quality = Annotated[float, Field(ge=0, le=100), IS_NUMBER]
Share = Annotated[float, Field(ge=0, le=1e12), IS_NUMBER]
Lines = Annotated[int, Field(ge=2, le=16384), IS_NUMBER]
Seconds = Annotated[float, Field(ge=0, le=1e6), IS_NUMBER]
CueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
Count = Annotated[int, Field(ge=1, le=30), IS_NUMBER]
Limit = Annotated[float, Field(ge=0, le=1e12), IS_NUMBER]

_OF_RELEASE_0_1: Final = ("profile", "search", "heights", "also")
"""Options that a job has always had in its document and so in its identity, default or not."""


def _common(name: str, *, default: Any = ..., **limits: Any) -> Any:
    """Declare an option that runs have too, with its default and its meaning.

    Other options than those of release 0.1 are left out of documents where they have their default:
    identities and digests of jobs from before there was the option hold, and services and clients
    of earlier releases, which refuse what they do not know, are not told of it.
    """
    if default is ...:
        default = getattr(DEFAULTS, name)
    if name not in _OF_RELEASE_0_1:
        limits["exclude_if"] = lambda value: value == default
    return Field(default=default, description=meaning_of(name), **limits)


class JobOptions(BaseModel):
    """Options of the run, with the meanings that they have for ``shotladder run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # `profile` is a name, or the content of a profile: its `name`, and every key of a table of
    # ladder/profiles.toml, or `based_on` and the keys that differ from that built-in profile's.
    profile: Name | ProfileContent = _common("profile")
    codec: Codecs | None = _common("codec")
    preset: Name | None = _common("preset")
    search: Name | None = _common("search", default=None)
    heights: list[Height] | None = _common("heights", min_length=1, max_length=20)
    policy: Name = _common("policy")
    also: list[Name] = _common("also", default=[], max_length=8)
    recipe_check: Name = _common("recipe_check")
    tone_map: Flag = _common("tone_map")
    tail: Name = _common("tail")
    program: Annotated[int, Field(ge=1, le=65535), IS_NUMBER] | None = _common("program")
    accept_truncated: Flag = _common("accept_truncated")
    audio_layout: Annotated[str, Field(max_length=200)] | None = _common("audio_layout")
    # Times in seconds.
    start: Limit | None = _common("start")
    duration: Limit | None = _common("duration")
    sample: Limit | None = _common("sample")
    audio_codec: Name | None = _common("audio_codec")
    audio_rates: list[Rate] = _common("audio_rates", default=[], max_length=2)
    audio_languages: list[Name] = _common("audio_languages", default=[], max_length=50)
    loudness: Annotated[float, Field(ge=-70, le=0), IS_NUMBER] | None = _common("loudness")
    measure_every: Annotated[int, Field(ge=1, le=99), IS_NUMBER] | None = _common("measure_every")
    encoder_params: list[Annotated[str, Field(max_length=1000)]] = _common(
        "encoder_params", default=[], max_length=4
    )
    # Where rungs lie and what they keep; a rate is in bit/s, a pair a list of two.
    rates: list[Rate] = _common("rates", default=[], max_length=30)
    qualities: list[Quality] = _common("qualities", default=[], max_length=30)
    rung_heights: list[Height] = _common("rung_heights", default=[], max_length=30)
    max_rate: Limit | None = _common("max_rate")
    min_quality: Quality | None = _common("min_quality")
    max_quality: Quality | None = _common("max_quality")
    floor: Quality | None = _common("floor")
    peak_ratio: Limit | None = _common("peak_ratio")
    vbv_seconds: Limit | None = _common("vbv_seconds")
    jnd: Quality | None = _common("jnd")
    rung_count: tuple[Count, Count] | None = _common("rung_count")
    least_ratio: Limit | None = _common("least_ratio")
    merge_within: list[Limit] | None = _common("merge_within", max_length=2)
    size_limits: list[tuple[Rate, Lines]] = _common("size_limits", default=[], max_length=30)
    native_top: Flag = _common("native_top")
    segments: Annotated[str, Field(pattern=r"^(shots|[0-9.]{1,13}(s|ms|f))$")] | None = _common(
        "segments"
    )
    longest_segment: Limit | None = _common("longest_segment")
    split_at: list[tuple[Seconds, Seconds, CueName]] = _common(
        "split_at", default=[], max_length=1000
    )
    viewers: list[Rate] | list[tuple[Rate, Share]] | None = _common("viewers", max_length=1000)
    device_lines: list[tuple[Lines, Share]] | None = _common("device_lines", max_length=30)
    tolerance: Quality | None = _common("tolerance")
    placement: Name | None = _common("placement")

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, given: Any) -> Any:
        """Refuse options that no job takes by name and with the reason."""
        if isinstance(given, Mapping) and cls.model_config.get("extra") == "forbid":
            for name in given:
                if name not in cls.model_fields:
                    raise PydanticCustomError(IN_WORDS, "{reason}", {"reason": _refusal(name)})
        return given

    @field_validator("profile", mode="before")
    @classmethod
    def _is_no_path(cls, given: Any) -> Any:
        if isinstance(given, str) and ("/" in given or given.endswith(".toml")):
            raise PydanticCustomError(
                IN_WORDS,
                "a job takes no path; give the name of a built-in profile, or the content of one "
                "(`shotladder submit --profile FILE` sends the content of a file)",
            )
        return given


class StatedOptions(JobOptions):
    """Options of a job in an answer. Options that this release does not know are kept as they are,
    since a newer service may have more.
    """

    model_config = ConfigDict(frozen=True, extra="allow")


def _refusal(name: str) -> str:
    reason = NOT_OF_JOBS.get(name)
    if reason is not None:
        return f"{name!r} is no option of a job: {reason}"
    known = ", ".join(JobOptions.model_fields)
    return f"there is no option {name!r:.80}; the options of a job are {known}"
