"""The trained model: networks, the scales of their inputs, and the covariance of their errors.

Weights are one safetensors file, read without pickle. Its metadata says what they were trained on
and with which features; weights for other features are refused, because a vector that means
something else gives a prediction that looks like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from encoder.analysis.features import FEATURES_VERSION
from encoder.arrays import Float64
from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import Recipe, by_name
from ladder.complexity.inputs import CRF_ENDS, INPUT_NAMES, ShotInputs, crf_position, vector
from ladder.complexity.network import CurveNetworks, ramps
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import TERMS, ResidualModel, residuals_for

FORMAT: Final = "shotladder/complexity/1"
CLIP = 4.0
"""Standard deviations at which an input is cut off: beyond, nothing was learned."""
_RESIDUALS: Final = {
    "title": (2 * TERMS, 2 * TERMS),
    "bends": (2,),
    "shot": (2 * TERMS, 2 * TERMS),
    "local": (2,),
    "noise": (2,),
}
"""Fields of a :class:`ResidualModel`, and their shapes."""


@dataclass(frozen=True, slots=True)
class InputScale:
    """From raw inputs to standardised ones."""

    unit: Float64
    """Typical size of each input; ``arcsinh`` of their ratio tames the long tails."""
    centre: Float64
    spread: Float64

    @classmethod
    def of(cls, inputs: Float64) -> InputScale:
        """The scale of ``[rows, inputs]``."""
        sizes = np.abs(inputs)
        unit = np.array([np.median(c[c > 0]) if (c > 0).any() else 1.0 for c in sizes.T])
        tamed = np.arcsinh(inputs / unit)
        return cls(unit, tamed.mean(axis=0), np.maximum(tamed.std(axis=0), 0.02))

    def __call__(self, inputs: Float64) -> Float64:
        """Standardised, the same shape."""
        tamed = (np.arcsinh(inputs / self.unit) - self.centre) / self.spread
        return np.asarray(np.clip(tamed, -CLIP, CLIP))


@dataclass(frozen=True, slots=True)
class ComplexityModel:
    """What :func:`ladder.complexity.training.train` makes and :meth:`predict` needs."""

    networks: CurveNetworks
    scale: InputScale
    offsets: Float64
    """Mean of log rate and of each warped quality, added to what the networks say."""
    qualities: tuple[str, ...]
    """Quality models, in the order of the networks' curves after the first."""
    residuals: Mapping[str, ResidualModel]
    """By quality model."""
    facts: Mapping[str, Any]
    """Of the training: data, groups, recipes, metrics. Goes into the model card."""

    @property
    def identity(self) -> str:
        """Digest of all that predictions depend on."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @property
    def recipes(self) -> tuple[str, ...]:
        """Recipes that it was trained on."""
        return tuple(self.facts["recipes"])

    def curves(self, inputs: Float64, quality: str, positions: Float64) -> tuple[Float64, Float64]:
        """Log rate and warped quality of ``[rows, inputs]`` raw inputs at ``[positions]``.

        Each has the shape ``[rows, positions]``.
        """
        number = 1 + self.qualities.index(quality)
        with torch.inference_mode():
            levels, drops = self.networks.coefficients(
                torch.tensor(self.scale(inputs), dtype=torch.float32)
            )
            basis = ramps(torch.tensor(positions, dtype=torch.float32))
            values = levels[..., None] - drops @ basis.T  # members, rows, curves, positions
            mean = values.mean(dim=0).double().numpy()
        return mean[:, 0] + self.offsets[0], mean[:, number] + self.offsets[number]

    def predict(
        self,
        shots: Sequence[ShotInputs],
        sizes: Sequence[Size],
        recipe: Recipe,
        quality: str,
        crfs: tuple[float, float],
        similar: Sequence[str] = (),
    ) -> TitlePrediction:
        """The expected curves of a title.

        Args:
            shots: Of the title, in order.
            sizes: Smallest first, the title's own last.
            recipe: How the shots would be encoded; a preset that the weights were not trained on is
                taken for the nearest preset.
            quality: Name of the quality model.
            crfs: Lowest and highest CRF to predict.
            similar: Quality models that may stand in for one that it was not trained on, the best
                first: their scores are predicted, and trusted less.

        Raises:
            BadInput: it knows nothing about that codec, nor about any of the quality models.
        """
        codec = recipe.codec
        if codec not in {by_name(known).codec for known in self.recipes}:
            raise BadInput(f"the complexity model was not trained on {codec}")
        found = residuals_for(self.residuals, quality, similar)
        if found is None:
            raise BadInput(f"the complexity model was not trained on {quality}")
        learned, residuals = found
        scale = CrfScale(*crfs, ends=CRF_ENDS[codec], step=recipe.crf_step)
        rows = np.stack(
            [vector(shot, size.width, size.height, recipe) for shot in shots for size in sizes]
        )
        rate, warped = self.curves(rows, learned, crf_position(codec, scale.crfs))
        shape = (len(shots), len(sizes), len(scale.crfs))
        return TitlePrediction(
            sizes=tuple(sizes),
            scale=scale,
            log_bpp=rate.reshape(shape),
            warped_quality=warped.reshape(shape),
            residuals=residuals,
            model=self.identity,
            quality_model=learned,
        )

    def to_bytes(self) -> bytes:
        """The weights file. Equal models give equal bytes."""
        tensors = {f"networks.{k}": v.contiguous() for k, v in self.networks.state_dict().items()}
        for name in ("unit", "centre", "spread"):
            tensors[f"inputs.{name}"] = torch.tensor(getattr(self.scale, name))
        tensors["offsets"] = torch.tensor(self.offsets)
        for quality, model in self.residuals.items():
            for name in _RESIDUALS:
                tensors[f"residuals.{quality}.{name}"] = torch.tensor(getattr(model, name))
        own = {
            "format": FORMAT,
            "features_version": FEATURES_VERSION,
            "inputs": list(INPUT_NAMES),
            "members": self.networks.members,
            "qualities": list(self.qualities),
            "facts": dict(self.facts),
        }
        return save(tensors, {"shotladder": json.dumps(own, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Write the weights file.

        Raises:
            BadInput: the place cannot be written.
        """
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_bytes(self.to_bytes())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise BadInput(
                f"{path} cannot be written ({error.strerror}); name another place"
            ) from error


def load_model(path: Path) -> ComplexityModel:
    """Read a weights file.

    Raises:
        BadInput: there is none, it is damaged, of another version, or has weights that are no
            numbers.
    """
    if not path.is_file():
        raise BadInput(f"no weights at {path}; `shotladder train` makes them")
    try:
        with safe_open(path, framework="pt") as file:
            own = json.loads((file.metadata() or {}).get("shotladder", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise BadInput(f"the weights {path} are damaged ({_line(error)})") from error
    own = own if isinstance(own, dict) else {}
    if own.get("format") != FORMAT:
        raise BadInput(f"{path} holds {own.get('format') or 'no weights of ours'}, not {FORMAT}")
    if own.get("features_version") != FEATURES_VERSION or own.get("inputs") != list(INPUT_NAMES):
        raise BadInput(
            f"the weights {path} are for features version {own.get('features_version')}, this is "
            f"version {FEATURES_VERSION}; train again"
        )
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise BadInput(f"the weights {path} have values that are no numbers in {bad[0]}")
    try:
        return _model(own, tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"the weights {path} are not whole ({_line(error)})") from error


def _model(own: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ComplexityModel:
    """The model of a file's metadata and tensors; all kinds of errors where they do not fit."""
    inputs, qualities, prefix = len(INPUT_NAMES), tuple(own["qualities"]), "networks."
    networks = CurveNetworks(own["members"], inputs, 1 + len(qualities))
    networks.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )

    def array(name: str, *shape: int) -> Float64:
        if tensors[name].shape != shape:
            raise ValueError(f"{name} is {list(tensors[name].shape)}, not {list(shape)}")
        return np.asarray(tensors[name].numpy())

    return ComplexityModel(
        networks=networks.eval(),
        scale=InputScale(*(array(f"inputs.{n}", inputs) for n in ("unit", "centre", "spread"))),
        offsets=array("offsets", 1 + len(qualities)),
        qualities=qualities,
        residuals={
            quality: ResidualModel(
                **{n: array(f"residuals.{quality}.{n}", *s) for n, s in _RESIDUALS.items()}
            )
            for quality in qualities
        },
        facts={**own["facts"], "recipes": list(own["facts"]["recipes"])},
    )


def _line(error: Exception) -> str:
    """What went wrong, short and on one line."""
    return " ".join(str(error).split())[:80]
