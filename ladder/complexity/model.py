"""The trained model: networks, the scales of their inputs, and the covariance of their errors.

Weights are one safetensors file, read without pickle. Its metadata says what the weights were
trained on and with which features. Weights for other features are refused: their inputs mean
something else, and the wrong predictions would look like any others.
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
from ladder.complexity.analogy import analogy
from ladder.complexity.inputs import CRF_ENDS, INPUT_NAMES, ShotInputs, crf_position, vector
from ladder.complexity.network import CurveNetworks, ramps
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import TERMS, ResidualModel, residuals_for

FORMAT: Final = "shotladder/complexity/1"
CLIP = 4.0
"""Standard deviations at which a standardised input is cut off: nothing was learned beyond."""
_RESIDUALS: Final = {
    "title": (2 * TERMS, 2 * TERMS),
    "bends": (2,),
    "shot": (2 * TERMS, 2 * TERMS),
    "local": (2,),
    "noise": (2,),
}
"""Shapes of the fields of a :class:`ResidualModel`."""


@dataclass(frozen=True, slots=True)
class InputScale:
    """How raw inputs are standardised."""

    unit: Float64
    """Typical magnitude of each input; ``arcsinh`` of an input's ratio to it tames long tails."""
    centre: Float64
    """Mean of each tamed input."""
    spread: Float64
    """Standard deviation of each tamed input."""

    @classmethod
    def of(cls, inputs: Float64) -> InputScale:
        """Return the scale that standardises ``inputs``, shape ``[rows, inputs]``."""
        sizes = np.abs(inputs)
        unit = np.array([np.median(c[c > 0]) if (c > 0).any() else 1.0 for c in sizes.T])
        tamed = np.arcsinh(inputs / unit)
        return cls(unit, tamed.mean(axis=0), np.maximum(tamed.std(axis=0), 0.02))

    def __call__(self, inputs: Float64) -> Float64:
        """Return standardised inputs of the same shape."""
        tamed = (np.arcsinh(inputs / self.unit) - self.centre) / self.spread
        return np.asarray(np.clip(tamed, -CLIP, CLIP))


@dataclass(frozen=True, slots=True)
class ComplexityModel:
    """A trained model, as :func:`ladder.complexity.training.train` returns it."""

    networks: CurveNetworks
    scale: InputScale
    offsets: Float64
    """Means of log rate and of each warped quality, which are added to the networks' curves."""
    qualities: tuple[str, ...]
    """Quality models, in the order of the networks' curves after the first."""
    residuals: Mapping[str, ResidualModel]
    """Covariance of the errors, by quality model."""
    facts: Mapping[str, Any]
    """Facts of the training for the model card: data, groups, recipes, metrics."""

    @property
    def identity(self) -> str:
        """Digest of everything that predictions depend on."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes that the model was trained on."""
        return tuple(self.facts["recipes"])

    def curves(self, inputs: Float64, quality: str, positions: Float64) -> tuple[Float64, Float64]:
        """Return log rate and warped quality of raw ``inputs`` at ``positions`` on the CRF scale.

        ``inputs`` has the shape ``[rows, inputs]``, each result ``[rows, positions]``.
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
        """Return the expected curves of a title.

        Args:
            shots: Shots of the title, in order.
            sizes: Sizes, smallest first, the title's own last.
            recipe: How the shots would be encoded. For a recipe that the weights were not trained
                on, the nearest one of the codec stands in; it is trusted less.
            quality: Name of the quality model.
            crfs: Lowest and highest CRF to predict.
            similar: Quality models that may stand in for one that the weights were not trained on,
                the best first: their scores are predicted, and trusted less.

        Raises:
            BadInput: the model was not trained on that codec, or on none of the quality models.
        """
        codec = recipe.codec
        known = analogy(recipe, map(by_name, self.recipes))
        if known is None:
            raise BadInput(f"the complexity model was not trained on {codec}")
        learned = residuals_for(self.residuals, quality, similar)
        if learned is None:
            raise BadInput(f"the complexity model was not trained on {quality}")
        quality_model, residuals = learned
        scale = CrfScale(*crfs, ends=CRF_ENDS[codec], step=recipe.crf_step)
        rows = [
            vector(shot, size.width, size.height, known.recipe) for shot in shots for size in sizes
        ]
        rate, warped = self.curves(np.stack(rows), quality_model, crf_position(codec, scale.crfs))
        shape = (len(shots), len(sizes), len(scale.crfs))
        return TitlePrediction(
            sizes=tuple(sizes),
            scale=scale,
            log_bpp=rate.reshape(shape) + known.log_rate,
            warped_quality=warped.reshape(shape) + known.warped_quality,
            residuals=residuals.for_similar_recipe(known.deviations),
            model=self.identity,
            quality_model=quality_model,
            recipe=known.recipe.name,
        )

    def to_bytes(self) -> bytes:
        """Return the content of the weights file; equal models give equal bytes."""
        tensors = {f"networks.{k}": v.contiguous() for k, v in self.networks.state_dict().items()}
        for name in ("unit", "centre", "spread"):
            tensors[f"inputs.{name}"] = torch.tensor(getattr(self.scale, name))
        tensors["offsets"] = torch.tensor(self.offsets)
        for quality, model in self.residuals.items():
            for name in _RESIDUALS:
                tensors[f"residuals.{quality}.{name}"] = torch.tensor(getattr(model, name))
        metadata = {
            "format": FORMAT,
            "features_version": FEATURES_VERSION,
            "inputs": list(INPUT_NAMES),
            "members": self.networks.members,
            "qualities": list(self.qualities),
            "facts": dict(self.facts),
        }
        return save(tensors, {"shotladder": json.dumps(metadata, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Write the weights file.

        Raises:
            BadInput: the file cannot be written.
        """
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_bytes(self.to_bytes())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise BadInput(
                f"{path} cannot be written ({error.strerror}); name another file"
            ) from error


def load_model(path: Path) -> ComplexityModel:
    """Read a weights file.

    Raises:
        BadInput: the file does not exist, is damaged, is of another version, or contains NaN or
            infinite values.
    """
    if not path.is_file():
        raise BadInput(f"no weights at {path}; `shotladder train` makes them")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("shotladder", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise BadInput(f"the weights {path} are damaged ({_line(error)})") from error
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("format") != FORMAT:
        found = metadata.get("format") or "no format"
        raise BadInput(
            f"{path} is not a shotladder weights file (expected {FORMAT}, found {found}); "
            "`shotladder train` makes one"
        )
    if metadata.get("features_version") != FEATURES_VERSION:
        raise BadInput(
            f"the weights {path} are for features version {metadata.get('features_version')}, this "
            f"is version {FEATURES_VERSION}; train again"
        )
    if metadata.get("inputs") != list(INPUT_NAMES):
        raise BadInput(
            f"the weights {path} were trained by another release, whose model has other inputs; "
            "train again"
        )
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise BadInput(
            f"the weights {path} contain NaN or infinite values in {bad[0]}; train again"
        )
    try:
        return _model(metadata, tensors)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"the weights {path} are incomplete ({_line(error)})") from error


def _model(metadata: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ComplexityModel:
    """Build the model from a file's metadata and tensors.

    Raises errors of many kinds where they do not fit.
    """
    inputs, qualities, prefix = len(INPUT_NAMES), tuple(metadata["qualities"]), "networks."
    networks = CurveNetworks(metadata["members"], inputs, 1 + len(qualities))
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
        facts={**metadata["facts"], "recipes": list(metadata["facts"]["recipes"])},
    )


def _line(error: Exception) -> str:
    """Return an error's message, short and on one line."""
    return " ".join(str(error).split())[:80]
