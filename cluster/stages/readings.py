"""The ways in which a source can have been read for the records that a store holds of it.

A record names the digest of its source, not what the user chose: another programme, tone mapping,
an end that is cut. So a record is judged by every reading of its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from cluster.stages.title import TitleSource, open_title, take_digest
from cluster.store.manifests import Manifest
from encoder.errors import BadInput, SourceChanged
from encoder.source.choices import DEFAULT_CHOICES, TAILS, SourceChoices


@dataclass(frozen=True, slots=True)
class Reading:
    """What decides which pictures a source has."""

    choices: SourceChoices = DEFAULT_CHOICES
    tone_map: bool = False

    @classmethod
    def of(cls, run: Manifest) -> Reading:
        """Return how a run read its source."""
        choices = replace(SourceChoices.from_document(run.options), audio_layout=None)
        return cls(choices, bool(run.options.get("tone_map")))


@dataclass(slots=True)
class Readings:
    """The readings of one source, opened as they are asked for."""

    id: str
    """First 16 hexadecimal digits of the source's digest."""
    refused: list[str] = field(default_factory=list)
    """Why readings that a run had cannot be opened now."""
    _path: Path = Path()
    _workdir: Path = Path()
    _by_runs: dict[Reading, None] = field(default_factory=dict)
    _opened: dict[Reading, TitleSource | BadInput] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, path: Path, runs: list[Manifest], workdir: Path) -> Readings:
        """Open a source as each run did, and with no choices.

        Args:
            path: File of the source.
            runs: Runs of any titles.
            workdir: Empty folder for copies.

        Raises:
            SourceUnusable: the source cannot be read in any of these ways.
        """
        self = cls("", _path=path, _workdir=workdir)
        default = self.open(Reading())
        if isinstance(default, TitleSource):
            self.id = default.id
        elif path.is_file():
            self.id = take_digest(path)[0][:16]
        else:
            raise default
        self._by_runs = {Reading.of(run): None for run in runs if run.title == self.id}
        for reading in self._by_runs:
            if isinstance(error := self.open(reading), BadInput):
                self.refuse(reading, error)
        if not any(isinstance(each, TitleSource) for each in self._opened.values()):
            raise default if isinstance(default, BadInput) else AssertionError
        return self

    def known(self) -> Iterator[tuple[Reading, TitleSource]]:
        """Yield the reading without choices and those of runs, each that has other pictures."""
        yield from self._differing({Reading(): None} | self._by_runs)

    def others(self) -> Iterator[tuple[Reading, TitleSource]]:
        """Yield the readings of runs that the store may have forgotten."""
        yield from self._differing(self._others())

    def _differing(self, readings: Iterable[Reading]) -> Iterator[tuple[Reading, TitleSource]]:
        for reading in readings:
            source = self.open(reading)
            if isinstance(source, TitleSource):
                identity = source.reference.graph_id
                if identity not in self._seen:
                    self._seen.add(identity)
                    yield reading, source

    def open(self, reading: Reading) -> TitleSource | BadInput:
        """Return the source as a reading has it, or why there is no such reading.

        Raises:
            SourceChanged: the source is being written.
        """
        if reading not in self._opened:
            folder = self._workdir / str(len(self._opened))
            folder.mkdir()
            try:
                self._opened[reading] = open_title(
                    self._path, folder, tone_map=reading.tone_map, choices=reading.choices
                )
            except SourceChanged:
                raise
            except BadInput as error:
                self._opened[reading] = error
        return self._opened[reading]

    def refuse(self, reading: Reading, error: BadInput) -> None:
        """Note that a reading cannot be used; what a run made by it cannot be judged then."""
        if reading in self._by_runs:
            self.refused.append(error.message)

    def _others(self) -> Iterator[Reading]:
        sources = [each for each in self._opened.values() if isinstance(each, TitleSource)]
        references = [source.reference for source in sources]
        taken: set[int | None] = set()
        programs = {reading.choices.program: None for reading in self._opened}
        for reference in references:
            if (transport := reference.copied.transport) is not None:
                programs |= dict.fromkeys(transport.others)
                if reference.choices.program is None:  # these are what is taken without a choice
                    taken.update(transport.programs)
        short = len(sources) < len(self._opened) or any(each.shortfall for each in references)
        bright = any(each.info.hdr is not None for each in references)
        for tail, program, accept, tone_map in product(
            TAILS,
            [each for each in programs if each not in taken],
            (False, True)[: 1 + short],
            (False, True)[: 1 + bright],
        ):
            yield Reading(SourceChoices(tail, program, accept), tone_map)
