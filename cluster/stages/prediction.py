"""The prediction stage: a title's expected curves, made once and stored.

Plans follow from a prediction, so a resumed job, on whatever machine, has to see the same numbers
as the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path

import numpy as np
from safetensors import numpy as tensors

from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.stages.analysis import features_key, find_features
from cluster.stages.quarantine import title_store
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title, TitleSource
from cluster.store import Store, open_store
from cluster.store.files import file_sha256
from cluster.store.keys import key
from encoder.analysis.features import ShotFeatures
from encoder.errors import BadInput
from encoder.media import Shot, Size
from encoder.recipes import Recipe
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import ResidualModel
from vmaf import models

PREDICTION_VERSION = 2
"""Version of the stage in its keys: raise it when the same weights and features would give another
prediction."""

_RESIDUALS = tuple(field.name for field in fields(ResidualModel))


def packaged_weights() -> Path:
    """Return the path of the weights that come with the product, for all codecs."""
    return Path(str(resources.files("ladder.complexity").joinpath("weights.safetensors")))


@dataclass(frozen=True, slots=True)
class PredictionWork:
    """Everything that the stage needs, small enough to travel to a worker."""

    source: TitleSource
    shots: tuple[Shot, ...]
    sizes: tuple[Size, ...]
    recipe: Recipe
    quality_model: str
    crfs: tuple[float, float]
    """Lowest and highest CRF."""
    weights: str
    """Path of the weights."""
    store: str
    """Folder or URL of the store."""
    features: tuple[ShotFeatures, ...] | None = None
    """Features of the shots, where the store has none of them because they are a sample."""


def predict_title(
    title: Title,
    sizes: Sequence[Size],
    recipe: Recipe,
    quality_model: str,
    crfs: tuple[float, float],
    weights: Path,
    store: Store,
    executor: Executor,
) -> TitlePrediction:
    """Return the title's prediction, from the store or made on ``executor``.

    Raises:
        BadInput: the weights are missing, damaged, made for other features, or were not trained
            on this codec or quality model.
    """
    work = PredictionWork(
        source=title.source,
        shots=title.shots,
        sizes=tuple(sizes),
        recipe=recipe,
        quality_model=quality_model,
        crfs=crfs,
        weights=str(weights),
        store=store.place,
        features=title.shot_features,
    )
    if work.features is not None:
        return replace(compute_prediction(work), model=_weights_sha256(work.weights)[:16])
    # With a store behind a URL, workers do not see the file of the weights.
    running = InlineExecutor() if store.remote else executor
    (outcome,) = running.run([Task(id="predict", function=find_prediction, arguments=(work,))])
    if outcome.error is not None:
        raise outcome.error
    prediction: TitlePrediction = outcome.result
    return prediction


def find_prediction(work: PredictionWork) -> TitlePrediction:
    """Return the prediction, from the store or by the model. Runs on any worker.

    Raises:
        BadInput: see :func:`predict_title`.
    """
    store = title_store(open_store(work.store), work.source)
    weights = _weights_sha256(work.weights)

    def make(scratch: Path) -> Made:
        prediction = compute_prediction(work)
        return Made(
            {"quality_model": prediction.quality_model, "recipe": prediction.recipe},
            {"prediction": pack_prediction(prediction)},
        )

    record = find_or_make(
        store,
        _prediction_key(work, weights),
        make,
        stage="predict",
        version=PREDICTION_VERSION,
        title=work.source.id,
    )
    return unpack_prediction(
        store.path(record.blobs["prediction"]).read_bytes(),
        sizes=work.sizes,
        crfs=work.crfs,
        crf_step=work.recipe.crf_step,
        model=weights[:16],
        quality_model=record.value["quality_model"],
        recipe=record.value["recipe"],
    )


def _weights_sha256(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError as error:
        raise BadInput(
            f"no weights at {path} ({error.strerror}); `shotladder train` makes them"
        ) from error


def _prediction_key(work: PredictionWork, weights: str) -> str:
    return key(
        "predict",
        PREDICTION_VERSION,
        features=features_key(work.source),
        shots=[[shot.start, shot.end, list(shot.cuts)] for shot in work.shots],
        sizes=[[size.width, size.height] for size in work.sizes],
        recipe=work.recipe.name,
        model=work.quality_model,
        crfs=list(work.crfs),
        weights=weights,
    )


def compute_prediction(work: PredictionWork) -> TitlePrediction:
    """Return the model's prediction without the store.

    Raises:
        BadInput: see :func:`predict_title`.
    """
    # Imported here: only this stage needs torch, which takes a second and 200 MB.
    from ladder.complexity.inputs import ShotInputs
    from ladder.complexity.model import load_model

    model = load_model(Path(work.weights))
    reference = work.source.reference
    features = work.features or find_features(work.source, work.store)
    shots = [
        ShotInputs(
            title_width=reference.width,
            title_height=reference.height,
            frame_rate=float(reference.frame_rate),
            frames=shot.frames,
            cuts=len(shot.cuts),
            features=vector.values,
        )
        for shot, vector in zip(work.shots, features, strict=True)
    ]
    similar = models.similar_models(work.quality_model)
    return model.predict(shots, work.sizes, work.recipe, work.quality_model, work.crfs, similar)


def pack_prediction(prediction: TitlePrediction) -> bytes:
    """Return the arrays of a prediction as bytes, see :func:`unpack_prediction`."""
    arrays = {"rate": prediction.log_bpp, "quality": prediction.warped_quality}
    arrays |= {name: getattr(prediction.residuals, name) for name in _RESIDUALS}
    arrays["ends"] = np.array(prediction.scale.ends)
    return tensors.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"model": prediction.model},
    )


def unpack_prediction(
    content: bytes,
    *,
    sizes: Sequence[Size],
    crfs: tuple[float, float],
    crf_step: float,
    model: str,
    quality_model: str,
    recipe: str,
) -> TitlePrediction:
    """Return the prediction whose arrays :func:`pack_prediction` packed.

    Args:
        content: The packed arrays.
        sizes: Sizes that were predicted.
        crfs: Lowest and highest CRF that was predicted.
        crf_step: Step between CRFs that differ to the encoder.
        model: Identity of the weights.
        quality_model: Quality model whose scores were predicted.
        recipe: Name of the recipe whose curves were predicted.
    """
    arrays = tensors.load(content)
    low, high = arrays["ends"].tolist()
    return TitlePrediction(
        sizes=tuple(sizes),
        scale=CrfScale(*crfs, ends=(low, high), step=crf_step),
        log_bpp=arrays["rate"],
        warped_quality=arrays["quality"],
        residuals=ResidualModel(**{name: arrays[name] for name in _RESIDUALS}),
        model=model,
        quality_model=quality_model,
        recipe=recipe,
    )
