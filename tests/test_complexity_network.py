"""Curves that fall with CRF whatever the weights are, and the file that weights are kept in."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import by_name, vp9, x264
from ladder.complexity.analogy import analogy
from ladder.complexity.inputs import CRF_ENDS, INPUT_NAMES, ShotInputs, crf_position, vector
from ladder.complexity.model import ComplexityModel, InputScale, load_model
from ladder.complexity.network import RAMPS, CurveNetworks, ramps
from ladder.complexity.recipe_inputs import CODECS
from ladder.complexity.residuals import TERMS
from tests.complexity_synthetic import residual_model

QUALITIES = ("vmaf_v0.6.1", "vmaf_v1.0.16_3d0h")
SIZES = (Size(416, 234), Size(640, 360), Size(1280, 720))


def shot_inputs(seed: int, spread: float = 1.0) -> ShotInputs:
    features = spread * np.random.default_rng(seed).standard_normal(len(FEATURE_NAMES))
    return ShotInputs(1280, 720, 24.0, 60 + seed % 50, seed % 3, tuple(features.tolist()))


def model_of(seed: int = 0, weight: float = 1.0) -> ComplexityModel:
    """Untrained: random weights, larger than training would leave them with ``weight``."""
    torch.manual_seed(seed)
    networks = CurveNetworks(3, len(INPUT_NAMES), 1 + len(QUALITIES)).eval()
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.copy_(weight * (parameter + 0.1 * torch.randn_like(parameter)))
    rows = [vector(shot_inputs(n), s.width, s.height, x264()) for n in range(6) for s in SIZES]
    return ComplexityModel(
        networks=networks,
        scale=InputScale.of(np.stack(rows)),
        offsets=np.array([-1.5, 0.7, 0.9]),
        qualities=QUALITIES,
        residuals={q: residual_model(0.1 * (1 + n)) for n, q in enumerate(QUALITIES)},
        facts={"recipes": ["x264-medium"], "seed": seed},
    )


def test_ramps_rise_from_nought_at_the_middle_of_the_scale() -> None:
    position = torch.linspace(-1, 1, 401, dtype=torch.float64)
    values = ramps(position)
    assert values.shape == (401, RAMPS)
    assert (values.diff(dim=0) >= 0).all()
    assert (values.diff(dim=0) > 0).any(dim=1).all()
    assert ramps(torch.zeros(1, dtype=torch.float64)).abs().max() == 0
    beyond = ramps(torch.tensor([-9.0, 9.0], dtype=torch.float64))
    assert torch.allclose(beyond[1] - beyond[0], torch.ones(RAMPS, dtype=torch.float64))


def test_ramps_together_are_a_straight_line_and_each_bends_smoothly() -> None:
    position = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    step = 2 / (RAMPS - 2)
    assert torch.allclose(ramps(position).sum(dim=1), position / step, atol=1e-9)
    # A jump in the second derivative would not shrink with the spacing.
    bend = ramps(position).diff(dim=0).diff(dim=0) / 0.001**2
    assert float(bend.diff(dim=0).abs().max()) < 0.02 * float(bend.abs().max())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    weight=st.sampled_from([0.1, 1.0, 3.0, 10.0]),
    spread=st.sampled_from([0.01, 1.0, 1e6]),
    quality=st.sampled_from(QUALITIES),
)
def test_curves_fall_with_crf_whatever_weights_and_inputs(
    seed: int, weight: float, spread: float, quality: str
) -> None:
    model = model_of(seed, weight)
    rows = np.stack([vector(shot_inputs(seed + n, spread), 640, 360, x264("slow")) for n in (0, 1)])
    rate, warped = model.curves(rows, quality, np.linspace(-1.2, 1.2, 97))
    for curve in (rate, warped):
        assert np.isfinite(curve).all()
        rounding = 1e-6 * np.abs(curve).max()  # of single precision
        assert (np.diff(curve, axis=1) <= rounding).all()
        assert (curve[:, 0] > curve[:, -1]).all()


def test_one_place_for_each_row_gives_what_whole_curves_give() -> None:
    model = model_of(1)
    inputs = torch.randn(5, len(INPUT_NAMES))
    position = torch.linspace(-1, 1, 5)
    with torch.inference_mode():
        one_by_one = model.networks(inputs, position)
        levels, drops = model.networks.coefficients(inputs)
        whole = levels[..., None] - drops @ ramps(position).T
    assert torch.allclose(one_by_one, whole.diagonal(dim1=1, dim2=3).transpose(1, 2), atol=1e-5)


def test_a_prediction_is_by_shot_size_and_crf() -> None:
    model = model_of(2)
    shots = [shot_inputs(n) for n in range(4)]
    found = model.predict(shots, SIZES, x264(), QUALITIES[1], (14.0, 46.0))
    assert found.log_bpp.shape == found.warped_quality.shape == (4, len(SIZES), 65)
    assert found.residuals is model.residuals[QUALITIES[1]]
    assert found.model == model.identity
    alone = model.predict(shots[2:3], SIZES[1:2], x264(), QUALITIES[1], (20.0, 30.0))
    columns = np.isin(found.scale.crfs, alone.scale.crfs)
    np.testing.assert_allclose(alone.log_bpp[0, 0], found.log_bpp[2, 1][columns], atol=1e-5)
    np.testing.assert_allclose(
        alone.warped_quality[0, 0], found.warped_quality[2, 1][columns], atol=1e-5
    )
    other = model.predict(shots, SIZES, x264(), QUALITIES[0], (14.0, 46.0))
    np.testing.assert_array_equal(other.log_bpp, found.log_bpp)
    assert not np.allclose(other.warped_quality, found.warped_quality)


def test_a_recipe_that_was_not_trained_on_is_predicted_as_the_nearest_and_trusted_less() -> None:
    model = model_of(2)
    shots, quality = [shot_inputs(n) for n in range(2)], QUALITIES[1]
    tuned = by_name("x264-slow+psy-rd=0.4,0:ref=3")
    own = model.predict(shots, SIZES, x264(), quality, (14.0, 46.0))
    found = model.predict(shots, SIZES, tuned, quality, (14.0, 46.0))
    known = analogy(tuned, [x264()])
    assert known is not None
    assert (own.recipe, found.recipe) == ("x264-medium", "x264-medium")
    np.testing.assert_allclose(found.log_bpp, own.log_bpp + known.log_rate)
    np.testing.assert_allclose(found.warped_quality, own.warped_quality + known.warped_quality)
    wider = found.residuals.title - own.residuals.title
    assert wider[0, 0] == pytest.approx(known.deviations[0] ** 2)
    assert wider[TERMS, TERMS] == pytest.approx(known.deviations[1] ** 2)
    assert np.count_nonzero(wider) == 2


@pytest.mark.parametrize(
    ("recipe", "quality", "message"),
    [("svtav1-fast", QUALITIES[0], "svtav1"), ("x264-medium", "psnr", "psnr")],
)
def test_it_says_what_it_was_not_trained_on(recipe: str, quality: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        model_of().predict([shot_inputs(0)], SIZES, by_name(recipe), quality, (14.0, 46.0))


@pytest.mark.parametrize("codec", CODECS)
def test_a_codecs_scale_goes_from_minus_one_to_one(codec: str) -> None:
    assert crf_position(codec, np.array(CRF_ENDS[codec])).tolist() == [-1.0, 1.0]


def test_inputs_tell_sizes_recipes_and_shots_apart() -> None:
    shot = shot_inputs(0)
    plain = vector(shot, 640, 360, x264())
    assert plain.shape == (len(INPUT_NAMES),)
    assert np.isfinite(plain).all()
    named = dict(zip(INPUT_NAMES, plain.tolist(), strict=True))
    assert named["log2_scale"] == -2.0
    assert (named["own_size"], named["codec_x264"], named["codec_vp9"]) == (0.0, 1.0, 0.0)
    own = dict(zip(INPUT_NAMES, vector(shot, 1280, 720, vp9()).tolist(), strict=True))
    assert (own["own_size"], own["kept_here"], own["log2_scale"]) == (1.0, 1.0, 0.0)
    assert (own["codec_x264"], own["codec_vp9"]) == (0.0, 1.0)
    for other in (
        vector(shot, 640, 360, x264("slow")),
        vector(shot, 640, 360, x264("medium", "psy-rd=0.4,0")),
        vector(dataclasses.replace(shot, frames=shot.frames * 2), 640, 360, x264()),
        vector(dataclasses.replace(shot, cuts=shot.cuts + 1), 640, 360, x264()),
        vector(dataclasses.replace(shot, frame_rate=50.0), 640, 360, x264()),
    ):
        assert not np.array_equal(plain, other)


def test_features_of_another_length_are_refused() -> None:
    short = dataclasses.replace(shot_inputs(0), features=(1.0,) * (len(FEATURE_NAMES) - 1))
    with pytest.raises(ValueError, match=f"{len(FEATURE_NAMES)} features"):
        vector(short, 640, 360, x264())


def test_inputs_far_from_what_was_learned_are_cut_off() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 4)) * [1, 10, 0, 1000]
    scale = InputScale.of(rows)
    usual = scale(rows)
    np.testing.assert_allclose(usual.mean(axis=0), 0, atol=0.3)
    assert np.abs(usual).max() <= 4
    assert np.array_equal(scale(np.full((1, 4), 1e30)), np.full((1, 4), 4.0))


# The weights file.


def rewritten(
    path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]
) -> Path:
    """The weights file with its metadata and tensors changed."""
    with safe_open(path, framework="pt") as file:
        own = json.loads(file.metadata()["shotladder"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(own, tensors)
    save_file(tensors, path, {"shotladder": json.dumps(own)})
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    model_of().save(path)
    return path


def test_saved_and_loaded_it_is_bit_for_bit_the_same(weights: Path) -> None:
    model, again = model_of(), load_model(weights)
    assert weights.read_bytes() == model.to_bytes() == again.to_bytes()
    assert again.identity == model.identity != model_of(1).identity
    assert again.facts == model.facts
    for quality in QUALITIES:
        shots = [shot_inputs(n) for n in range(3)]
        one, other = (
            m.predict(shots, SIZES, x264(), quality, (14.0, 46.0)) for m in (model, again)
        )
        assert np.array_equal(one.log_bpp, other.log_bpp)
        assert np.array_equal(one.warped_quality, other.warped_quality)
        for name in ("title", "bends", "shot", "local", "noise"):
            assert np.array_equal(getattr(one.residuals, name), getattr(other.residuals, name))
    assert [p.name for p in weights.parent.iterdir()] == [weights.name]


def test_everything_that_predictions_depend_on_is_in_the_identity() -> None:
    model = model_of()
    others = [
        dataclasses.replace(model, offsets=model.offsets + 1e-9),
        dataclasses.replace(model, residuals={q: residual_model(0.3) for q in QUALITIES}),
        dataclasses.replace(
            model, scale=dataclasses.replace(model.scale, unit=model.scale.unit * 1.01)
        ),
        dataclasses.replace(model, qualities=QUALITIES[::-1]),
    ]
    assert len({model.identity, *(other.identity for other in others)}) == 5


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no weights at .*shotladder train"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(BadInput, match="no weights at"):
        load_model(tmp_path)


@pytest.mark.parametrize("left", [0, 4, 60, 5000, -1])
def test_a_truncated_file(weights: Path, left: int) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:left])
    with pytest.raises(BadInput, match="damaged"):
        load_model(weights)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    path = tmp_path / "weights.pt"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    for made in (lambda: path.write_bytes(pickle.dumps(Trap())), lambda: torch.save(Trap(), path)):
        made()
        with pytest.raises(BadInput, match="damaged"):
            load_model(path)
    assert not trap.exists()


def test_weights_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(BadInput, match=r"is not a shotladder weights file \(expected shot"):
        load_model(path)


def another_format(own: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    own["format"] = "shotladder/complexity/99"


def another_features_version(own: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    own["features_version"] = FEATURES_VERSION - 1


def other_inputs(own: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    own["inputs"] = own["inputs"][::-1]


def no_number(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["networks.head.weight"][0, 1, 2] = float("nan")


def infinite(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors[f"residuals.{QUALITIES[0]}.noise"][0] = float("inf")


def a_tensor_less(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors["networks.head.bias"]


def residuals_less(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors[f"residuals.{QUALITIES[1]}.shot"]


def another_shape(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["networks.head.bias"] = tensors["networks.head.bias"][:, :, :-1].contiguous()


def residuals_of_another_shape(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    name = f"residuals.{QUALITIES[1]}.shot"
    tensors[name] = tensors[name][:-1].contiguous()


def scale_of_another_shape(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["inputs.unit"] = tensors["inputs.unit"][:-1].contiguous()


def offsets_of_another_shape(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["offsets"] = tensors["offsets"][:-1].contiguous()


def a_key_less(own: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    del own["members"]


def recipes_less(own: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    del own["facts"]["recipes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_format, "found shotladder/complexity/99"),
        (another_features_version, f"features version {FEATURES_VERSION - 1}"),
        (other_inputs, "whose model has other inputs; train again"),
        (no_number, "contain NaN or infinite values in networks.head.weight"),
        (infinite, "contain NaN or infinite values in residuals"),
        (a_tensor_less, "are incomplete"),
        (residuals_less, "are incomplete"),
        (another_shape, "are incomplete"),
        (residuals_of_another_shape, "are incomplete"),
        (scale_of_another_shape, "are incomplete"),
        (offsets_of_another_shape, "are incomplete"),
        (a_key_less, "are incomplete"),
        (recipes_less, "are incomplete"),
    ],
)
def test_weights_that_cannot_be_used_say_why(
    weights: Path,
    change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None],
    message: str,
) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        load_model(rewritten(weights, change))
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("metadata", ["[]", "3", "{", "null"])
def test_metadata_that_is_no_object(tmp_path: Path, metadata: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(2)}, path, {"shotladder": metadata})
    with pytest.raises(BadInput):
        load_model(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none" / "weights", tmp_path / "file" / "weights"):
        with pytest.raises(BadInput, match="cannot be written"):
            model_of().save(path)
