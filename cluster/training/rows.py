"""Measured cells of a title as rows of the training table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.stages.measurer import Measurer
from cluster.stages.title import TitleSource
from cluster.training.table import Row
from encoder import ffmpeg
from encoder.analysis.features import ShotFeatures
from encoder.errors import BadInput
from encoder.media import Request, Shot
from vmaf.graph import Context
from vmaf.sampled import step_of


@dataclass(frozen=True, slots=True)
class TrainingTitle:
    """A title as training sees it: everything that its rows have in common."""

    group: str
    file: str
    """File name of the source; for an augmentation, of the file that it was made from."""
    augmentation: str
    """Name of the augmentation; empty for the file itself."""
    source: TitleSource
    shots: tuple[Shot, ...]
    features: tuple[ShotFeatures, ...]
    """Features of each shot."""

    def measured_rows(self, measurer: Measurer, requests: Iterable[Request]) -> list[Row]:
        """Return the rows of encodes that a measurer knows.

        Raises:
            StoreUnusable: the store has lost an encode.
        """
        return [self._measured(measurer, request) for request in requests]

    def _measured(self, measurer: Measurer, request: Request) -> Row:
        encode = measurer.measured_encode(request)
        return self.row(
            request,
            bits=8 * encode.num_bytes,
            quality={model: encode.mean_quality(model) for model in encode.scores},
            encode_cpu_seconds=encode.encode_cpu_seconds,
            tool=ffmpeg.version(),
        )

    def row(
        self,
        request: Request,
        *,
        bits: int,
        quality: Mapping[str, float],
        encode_cpu_seconds: float | None,
        tool: str,
    ) -> Row:
        """Return the row of one measured cell.

        Args:
            request: Shot and operating point of the cell.
            bits: Size of the media segment.
            quality: Mean score over the shot's frames, by quality model.
            encode_cpu_seconds: CPU seconds of the encode; None if they are not known.
            tool: Identity of the ffmpeg that encoded and scored.
        """
        number, point = request
        shot, features, reference = self.shots[number], self.features[number], self.source.reference
        context = Context.of(shot.start, shot.end, reference.frames)
        return Row(
            group=self.group,
            source=self.file,
            augmentation=self.augmentation,
            title_id=self.source.id,
            source_sha256=self.source.sha256,
            reference=reference.graph_id,
            title_width=reference.width,
            title_height=reference.height,
            title_frames=reference.frames,
            frame_rate=reference.frame_rate,
            source_bits=8 * reference.index.packet_bytes,
            shot=number,
            start_frame=shot.start,
            end_frame=shot.end,
            cuts=shot.cuts,
            context_before=context.before,
            context_after=context.after,
            recipe=point.recipe.name,
            width=point.width,
            height=point.height,
            crf=point.crf,
            bits=bits,
            # Rounded as in packages, so that a package and a sweep agree on the same cell.
            quality={
                model: round(score, 4) for model, score in quality.items() if step_of(model) == 1
            },
            encode_cpu_seconds=encode_cpu_seconds,
            tool=tool,
            features_version=features.version,
            features=features.values,
        )


def check_standard_range(path: Path, source: TitleSource) -> None:
    """Check that a title may be in a table.

    Raises:
        BadInput: the title has high dynamic range.
    """
    if source.reference.hdr is not None:
        raise BadInput(
            f"{path} is high dynamic range ({source.reference.hdr}); tables and training support "
            "standard range only, so leave it out"
        )
