"""A model in the format of YuNet that takes every red thing for a face.

Written by hand in ONNX's protobuf, so that OpenCV's own detector runs on it: three strides, each
with scores (how red a cell is), a box of twice the cell around its middle, and landmarks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 7
STRIDES = (8, 16, 32)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_field(1, side) for side in values.shape)
    raw = values.astype("<f4").tobytes()
    return dims + _field(2, FLOAT) + _field(8, name) + _field(9, raw)


def _ints(name: str, values: tuple[int, ...]) -> bytes:
    content = _field(1, name) + b"".join(_field(8, value) for value in values)
    return _field(5, content + _field(20, INT64))


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    body = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output)
    return _field(1, body + _field(4, kind) + b"".join(attributes))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, dims)))


def write_red_finder(path: Path, size: int = 320) -> Path:
    """Write the model. It declares inputs of ``size`` and accepts any other."""
    nodes, constants, outputs = b"", b"", b""

    def convolve(source: str, output: str, weights: list[float], bias: list[float]) -> bytes:
        nonlocal constants
        count = len(bias)
        table = np.array([weights] * count, np.float32).reshape(count, 3, 1, 1)
        constants += _field(5, _tensor(f"{output}.w", table))
        constants += _field(5, _tensor(f"{output}.b", np.array(bias, np.float32)))
        inputs = [source, f"{output}.w", f"{output}.b"]
        return _node("Conv", inputs, output, _ints("kernel_shape", (1, 1)))

    red = [-0.02, -0.02, 0.02]  # blue, green, red
    for stride in STRIDES:
        cells = (size // stride) ** 2
        pooled = f"pooled_{stride}"
        square = _ints("kernel_shape", (stride, stride)), _ints("strides", (stride, stride))
        nodes += _node("AveragePool", ["input"], pooled, *square)
        for name in ("cls", "obj"):
            raw = f"{name}.raw_{stride}"
            nodes += convolve(pooled, raw, red, [-1.0])
            nodes += _node("Sigmoid", [raw], f"{name}_{stride}")
            outputs += _field(12, _value(f"{name}_{stride}", (1, cells, 1)))
        for name, bias in (("bbox", [0.5, 0.5, 0.69, 0.69]), ("kps", [0.5] * 10)):
            raw = f"{name}.raw_{stride}"
            nodes += convolve(pooled, raw, [0.0] * 3, bias)
            order = _ints("perm", (0, 2, 3, 1))
            nodes += _node("Transpose", [raw], f"{name}_{stride}", order)
            outputs += _field(12, _value(f"{name}_{stride}", (1, cells, len(bias))))
    graph = nodes + _field(2, "red") + constants
    graph += _field(11, _value("input", (1, 3, size, size))) + outputs
    model = _field(1, 8) + _field(8, _field(1, "") + _field(2, 13)) + _field(7, graph)
    path.write_bytes(model)
    return path
