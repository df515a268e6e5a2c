"""Types of numpy arrays, declared once for every package."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
"""Pictures and measures of pictures: half the memory of float64, and precise enough."""
Float64 = npt.NDArray[np.float64]
"""Numbers that are summed, solved or compared."""
Int64 = npt.NDArray[np.int64]
"""Frame numbers and timestamps in ticks."""
Index = npt.NDArray[np.intp]
"""Positions in another array."""
UInt8 = npt.NDArray[np.uint8]
"""Eight-bit samples, one plane or interleaved."""
Mask = npt.NDArray[np.bool_]
"""True where an element is selected."""
AnyArray = npt.NDArray[Any]
"""An array whose element type does not matter or varies."""
