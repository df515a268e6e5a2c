"""The prediction stage: a title's expected curves, made once and kept.

A prediction is stored because plans follow from it: a resumed job, on whatever machine, has to
see the very numbers that the first one saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path

import numpy as np
from safetensors import numpy as tensors

from cluster.execution.executor import Executor, InlineExecutor, Task
from cluster.stages.analysis import features_key, find_features
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title, TitleSource
from cluster.store import Store, open_store
from cluster.store.keys import key
from encoder.errors import BadInput
from encoder.media import Shot, Size
from encoder.recipes import Recipe
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import ResidualModel
from vmaf import models

PREDICTION_VERSION = 2
"""Rises when the same weights and features would give another prediction."""
_ARRAYS = tuple(field.name for field in fields(ResidualModel))


_OF_CODEC = {"x264": "weights.safetensors"}
_OF_OTHERS = "weights-codecs.safetensors"


def packaged_weights(codec: str) -> Path:
    """The weights for a codec that come with the product.

    Those of x264 were trained on its dense sweep alone. Those of all others were trained on that
    and on sparse sweeps of each; for x264 they are no better (docs/measured.md, "Predicting").
    """
    name = _OF_CODEC.get(codec, _OF_OTHERS)
    return Path(str(resources.files("ladder.complexity").joinpath(name)))


@dataclass(frozen=True, slots=True)
class PredictionWork:
    """What the stage needs; small enough to travel."""

    source: TitleSource
    shots: tuple[Shot, ...]
    sizes: tuple[Size, ...]
    recipe: Recipe
    quality_model: str
    crfs: tuple[float, float]
    weights: str
    store: str


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
    """The title's prediction, from the store or made on ``executor``.

    Raises:
        BadInput: the weights are missing, damaged, for other features, or know nothing of this
            codec or quality model.
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
    )
    # Weights are a file of this machine.
    running = InlineExecutor() if store.remote else executor
    (outcome,) = running.run([Task(id="predict", function=find_prediction, arguments=(work,))])
    if outcome.error is not None:
        raise outcome.error
    found: TitlePrediction = outcome.result
    return found


def find_prediction(work: PredictionWork) -> TitlePrediction:
    """The prediction, from the store or by the model. Runs on any worker.

    Raises:
        BadInput: as :func:`predict_title`.
    """
    store = open_store(work.store)
    identity = _identity(work)

    def make(scratch: Path) -> Made:
        prediction = _predict(work)
        return Made(
            {"quality_model": prediction.quality_model}, {"prediction": _packed(prediction)}
        )

    record = find_or_make(
        store, identity, make, stage="predict", version=PREDICTION_VERSION, title=work.source.id
    )
    content = store.path(record.blobs["prediction"]).read_bytes()
    return _unpacked(content, record.value["quality_model"], work)


def _identity(work: PredictionWork) -> str:
    weights = Path(work.weights)
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise BadInput(
            f"no weights at {weights} ({error.strerror}); `shotladder train` makes them"
        ) from error
    return key(
        "predict",
        PREDICTION_VERSION,
        features=features_key(work.source),
        shots=[[shot.start, shot.end, list(shot.cuts)] for shot in work.shots],
        sizes=[[size.width, size.height] for size in work.sizes],
        recipe=work.recipe.name,
        model=work.quality_model,
        crfs=list(work.crfs),
        weights=_digest(content),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _predict(work: PredictionWork) -> TitlePrediction:
    # Imported here: only this stage needs torch, which takes a second and 200 MB.
    from ladder.complexity.inputs import ShotInputs
    from ladder.complexity.model import load_model

    model = load_model(Path(work.weights))
    reference = work.source.reference
    features = find_features(work.source, work.store)
    shots = [
        ShotInputs(
            title_width=reference.width,
            title_height=reference.height,
            frame_rate=float(reference.frame_rate),
            frames=shot.frames,
            cuts=len(shot.cuts),
            features=found.values,
        )
        for shot, found in zip(work.shots, features, strict=True)
    ]
    similar = models.similar_models(work.quality_model)
    return model.predict(shots, work.sizes, work.recipe, work.quality_model, work.crfs, similar)


def _packed(prediction: TitlePrediction) -> bytes:
    arrays = {"rate": prediction.log_bpp, "quality": prediction.warped_quality}
    arrays |= {name: getattr(prediction.residuals, name) for name in _ARRAYS}
    arrays["ends"] = np.array(prediction.scale.ends)
    return tensors.save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"model": prediction.model},
    )


def _unpacked(content: bytes, quality_model: str, work: PredictionWork) -> TitlePrediction:
    arrays = tensors.load(content)
    low, high = arrays["ends"].tolist()
    return TitlePrediction(
        sizes=work.sizes,
        scale=CrfScale(*work.crfs, ends=(low, high), step=work.recipe.crf_step),
        log_bpp=arrays["rate"],
        warped_quality=arrays["quality"],
        residuals=ResidualModel(**{name: arrays[name] for name in _ARRAYS}),
        model=_digest(Path(work.weights).read_bytes())[:16],
        quality_model=quality_model,
    )
