"""A few rounds of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster_chaos import chaos_rounds, check


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_rounds_of_random_faults(tmp_path: Path) -> None:
    found = chaos_rounds(tmp_path, range(5), 1, lambda number, counted: None)
    assert len(found) == 5
    check(found)
