"""Transport streams of several programmes, of changing PIDs, or with a clock that jumps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoder.errors import SourceUnusable, StoreUnusable
from encoder.source.choices import SourceChoices
from encoder.source.copy_facts import CopyFacts
from encoder.source.opening.container import opened
from encoder.source.opening.reading import reading
from encoder.source.transport.programme import ProgrammePlan, plan_programme
from encoder.source.transport.survey import survey

_DEMUXER = "mpegts"


@dataclass(frozen=True, slots=True)
class OneProgramme:
    """A copy with one programme on one clock, each of its streams with one PID."""

    plan: ProgrammePlan
    suffix: str = "ts"
    text_start: Fraction | None = None

    def facts(self, before: CopyFacts) -> CopyFacts:
        """Return what the copy has other than its source."""
        return replace(before, transport=self.plan.facts, jumps=self.plan.jumps)

    def write(self, source: Path, made: Path) -> None:
        """Write the copy to ``made``.

        Raises:
            StoreUnusable: the copy cannot be written.
        """
        try:
            self.plan.write(made)
        except OSError as error:
            raise StoreUnusable(
                f"cannot write {made}: {error.strerror}; free disk space or check its permissions"
            ) from error


def examine(path: Path, choices: SourceChoices) -> OneProgramme | None:
    """Return the copy of one programme that the source needs, None where it needs none.

    Raises:
        SourceUnusable: the source cannot be read, or lacks the programme that was chosen.
    """
    with opened(path) as container:
        form = container.format.name
    with reading(path):
        found = survey(path) if form == _DEMUXER else None
    if found is not None and (plan := plan_programme(path, found, choices.program)):
        return OneProgramme(plan)
    if found is None and choices.program is not None:
        raise SourceUnusable(
            f"cannot use {path}: it has no programmes (it is no transport stream that lists any), "
            f"and --program {choices.program} names one; leave the option out"
        )
    return None
