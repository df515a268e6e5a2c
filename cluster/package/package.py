"""A finished package as a value: its documents, shots, measured points, source and verification.

Everything that reads a package uses :class:`Package`: ``ladder show``, ``compare``, ``what-if``,
``sweep --package``, the report. A document is read when it is first needed. Measured points and
curves are returned by recipe, because a package may hold rungs of several codecs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster import events
from cluster.package.assemble import verify_directory
from cluster.package.documents import (
    read_artwork,
    read_ladder,
    read_measurements,
    read_prefetch,
    read_run,
)
from cluster.package.source_check import SourceReport, check_source
from cluster.stages.title import Title, TitleSource, open_title
from encoder.errors import BadInput
from encoder.media import OperatingPoint, Request, Shot
from encoder.names import path_of
from encoder.package.verify import VerifyReport
from encoder.recipes import Recipe, by_name
from encoder.segmentation import SHOTS, Segmentation
from encoder.source.choices import SourceChoices
from encoder.source.part import ExcerptChoices
from ladder.adjustments import DIVIDING, adjusted
from ladder.bdrate import RatePoint
from ladder.curves import Measurement
from ladder.document import Cell, Ladder, Measurements, Rung
from ladder.profiles import Profile, load_profile, profile_before, profile_from_document
from ladder.search.measured import measured_curves
from ladder.title_curves import TitleCurves
from recommender.artwork.document import Artwork
from recommender.prefetch.document import Prefetch


class Package:
    """A folder that ``shotladder run`` wrote."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        """Folder of the package."""

    @classmethod
    def open(cls, directory: Path | str) -> Package:
        """Return the package in a folder, after reading its ``ladder.json``.

        Raises:
            BadInput: the folder holds no package, or one that this version cannot read.
        """
        package = cls(directory)
        _ = package.ladder
        return package

    @classmethod
    def of(cls, directory: Path, ladder: Ladder, measurements: Measurements) -> Package:
        """Return a package whose documents the caller has already read."""
        package = cls(directory)
        package.ladder, package.measurements = ladder, measurements
        return package

    def __repr__(self) -> str:
        return f"Package({str(self.directory)!r})"

    # -- documents -----------------------------------------------------------------------------

    @cached_property
    def ladder(self) -> Ladder:
        """Content of ``ladder.json``."""
        return read_ladder(self.directory)

    @cached_property
    def measurements(self) -> Measurements:
        """Content of ``measurements.json``."""
        return read_measurements(self.directory)

    @cached_property
    def artwork(self) -> Artwork:
        """Content of ``artwork.json``."""
        return read_artwork(self.directory)

    @cached_property
    def prefetch(self) -> Prefetch:
        """Content of ``prefetch.json``."""
        return read_prefetch(self.directory)

    @cached_property
    def run(self) -> Mapping[str, Any]:
        """Content of ``run.json``; empty where the file is missing or damaged."""
        return read_run(self.directory) or {}

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the run, as ``run.json`` has them; empty where it has none."""
        options = self.run.get("options")
        return options if isinstance(options, dict) else {}

    @cached_property
    def profile(self) -> Profile:
        """Profile that the ladder was made by, with the limits that the run was given.

        Raises:
            BadInput: this version has no profile of that name.
        """
        return adjusted(self.plain_profile, self.options)

    @property
    def plain_profile(self) -> Profile:
        """Profile that the run named, without the limits that it was given beside it.

        Raises:
            BadInput: this version has no profile of that name.
        """
        content = self.options.get("profile_content")
        if content:
            return profile_from_document(content)
        return load_profile(profile_before(self.ladder.profile))

    # -- the title -----------------------------------------------------------------------------

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second of the title."""
        return self.ladder.frame_rate

    @property
    def cpu_seconds(self) -> float | None:
        """CPU seconds of the whole job; None unless the run made all of its encodes itself."""
        seconds = self.run.get("cpu_seconds")
        complete = self.run.get("encoded_now") == self.ladder.search.encodes
        return sum(seconds.values()) if complete and isinstance(seconds, dict) else None

    @property
    def seconds(self) -> Fraction:
        """Duration of the title in seconds."""
        return self.ladder.title.frames / self.frame_rate

    @cached_property
    def shots(self) -> tuple[Shot, ...]:
        """Shots of the title, in order."""
        return tuple(
            Shot(row.start_frame, row.end_frame, tuple(row.cuts)) for row in self.measurements.shots
        )

    @property
    def source_path(self) -> Path:
        """Path at which the run found the source.

        Raises:
            BadInput: ``run.json`` does not name it.
        """
        try:
            return path_of(self.run["source"])
        except (KeyError, TypeError):
            raise BadInput(
                f"{self.directory / 'run.json'} does not name the source; name it with --source"
            ) from None

    @property
    def segmentation(self) -> Segmentation:
        """Where the run was asked to let segments begin.

        Raises:
            BadInput: this version cannot read the run's options.
        """
        content = self.options.get("profile_content") or {}
        of = {name: self.options.get(name) or content.get(name) for name in DIVIDING}
        profile = self.profile if any(of.values()) else None
        return Segmentation.of(
            profile.segments if profile else SHOTS,
            profile.longest_segment if profile else None,
            self.options.get("split_at") or (),
        )

    def source_allowance(self, codec: str) -> int:
        """Return the bits that a rung of ``codec`` may take beyond those of the source."""
        return int((self.run.get("source_allowance_bits") or {}).get(codec, 0))

    def open_source(self, workdir: Path, path: Path | None = None) -> TitleSource:
        """Open the source that the package was made from.

        Args:
            workdir: folder for a copy of the source with timestamps, where it has none.
            path: path of the source; None is where the run found it.

        Raises:
            BadInput: ``run.json`` does not name the source, or the file has other content.
            SourceUnusable: the file cannot be read.
        """
        path = path or self.source_path
        title = self.ladder.title
        options = self.run.get("options") or {}
        source = open_title(
            path,
            workdir,
            tone_map=title.tone_mapped is not None,
            choices=SourceChoices.from_document(options),
            segmentation=self.segmentation,
            part=ExcerptChoices(*(options.get(name) for name in ("start", "duration", "sample"))),
        )
        if source.sha256 != title.sha256:
            raise BadInput(
                f"{path} is not the source that {self.directory} was made from "
                "(its content differs); name the right one with --source"
            )
        return source

    def open_as_title(self, workdir: Path, path: Path | None = None) -> Title:
        """Open the source as a title with the package's own shots.

        Raises:
            BadInput, SourceUnusable: see :meth:`open_source`.
        """
        return Title(self.ladder.title.source, self.open_source(workdir, path), self.shots)

    # -- what was measured ---------------------------------------------------------------------

    @property
    def quality_model(self) -> str:
        """Name of the quality model that the ladder was made by."""
        return self.ladder.quality_model

    @property
    def recipe(self) -> Recipe:
        """Recipe of the first codec."""
        return by_name(self.ladder.recipe)

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """Recipes of all codecs, the first codec's first."""
        names = [self.ladder.recipe, *(codec.recipe for codec in self.ladder.codecs)]
        return tuple(by_name(name) for name in dict.fromkeys(names))

    def recipe_of(self, part: Rung | Cell) -> Recipe:
        """Return the recipe of a rung or of a measured cell."""
        return by_name(part.recipe or self.ladder.recipe)

    def request_of(self, cell: Cell) -> Request:
        """Return the shot and the operating point that a cell measures."""
        return cell.shot, OperatingPoint(self.recipe_of(cell), *cell.size, cell.crf)

    def cells(self, recipe: Recipe | str | None = None) -> dict[Request, Cell]:
        """Return the measured cells of one recipe (or of its name), or of all recipes.

        Raises:
            BadInput: the package has no such recipe.
        """
        wanted = self._one_of_ours(recipe)
        return {
            self.request_of(cell): cell
            for cell in self.measurements.cells
            if wanted is None or self.recipe_of(cell) == wanted
        }

    def points(self, recipe: Recipe | str | None = None) -> dict[Request, Measurement]:
        """Return bits and quality of the measured cells of one recipe, or of all recipes."""
        return {
            request: Measurement(8 * cell.bytes, cell.quality)
            for request, cell in self.cells(recipe).items()
        }

    def rungs(self, recipe: Recipe | str | None = None) -> list[Rung]:
        """Return the rungs of one recipe; None is the recipe of the first codec."""
        recipe = self._one_of_ours(recipe) or self.recipe
        return [rung for rung in self.ladder.rungs if self.recipe_of(rung) == recipe]

    def requests(self, rung: Rung) -> list[Request]:
        """Return the encodes of a rung, in order of shots."""
        recipe = self.recipe_of(rung)
        return [
            (segment.shot, OperatingPoint(recipe, *segment.size, segment.crf))
            for segment in rung.segments
        ]

    def rate_points(self, model: str, recipe: Recipe | str | None = None) -> list[RatePoint]:
        """Return rate (bit/s) and mean quality by ``model`` of each rung of one recipe."""
        return [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in self.rungs(recipe)]

    def curves(self, recipe: Recipe | str | None = None) -> TitleCurves:
        """Return the curves through all measured points of one recipe, at the sizes at which every
        shot was measured; None is the recipe of the first codec.
        """
        recipe = self._one_of_ours(recipe) or self.recipe
        return TitleCurves(
            frame_rate=self.frame_rate,
            recipe=recipe,
            shots=self.shots,
            curves=measured_curves(self.points(recipe), self.shots),
        )

    def _one_of_ours(self, recipe: Recipe | str | None) -> Recipe | None:
        wanted = by_name(recipe) if isinstance(recipe, str) else recipe
        if wanted is not None and wanted not in self.recipes:
            raise BadInput(
                f"{self.directory} has nothing of the recipe {wanted}; its recipes are "
                f"{', '.join(map(str, self.recipes))}"
            )
        return wanted

    # -- checks --------------------------------------------------------------------------------

    def check_clear(self) -> None:
        """Check that the package is not encrypted.

        Raises:
            BadInput: it is.
        """
        if self.ladder.encryption is not None:
            raise BadInput(
                f"{self.directory} is encrypted, so its pictures cannot be read here; name the "
                "package that it was made of"
            )

    def verify(self, on_event: events.Listener = lambda event: None) -> VerifyReport:
        """Decode every rung and compare each frame with the frame that was scored.

        Raises:
            VerificationFailed: the package is not what was measured.
            ToolFailed: ffmpeg was killed, so the package may be right or wrong.
            BadInput: the package is encrypted.
        """
        self.check_clear()
        with events.stage(on_event, "verify", len(self.ladder.rungs), unit="rungs"):
            return verify_directory(
                self.directory,
                self.ladder.rungs,
                self.frame_rate,
                self.ladder.sound,
                self.ladder.cues,
            )

    def verify_source(self, source: Path | None = None) -> SourceReport:
        """Decode the source straight and compare it with the package's pictures and sound.

        Args:
            source: path of the source; None is where the run found it.

        Raises:
            VerificationFailed: the package shows or plays something else than the source.
            BadInput: the source is not there, cannot be read or has other content.
        """
        self.check_clear()
        with tempfile.TemporaryDirectory() as workdir:
            opened = self.open_source(Path(workdir), source)
            return check_source(
                self.directory,
                self.ladder.rungs,
                self.frame_rate,
                opened.reference,
                damaged="damage" in self.run,
            )
