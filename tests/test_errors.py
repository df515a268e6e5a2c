from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import pytest

from encoder import errors
from encoder.errors import BadInput, ShotladderError, ToolFailed

CONTEXT = {"command": "ffmpeg -i 'a b'", "returncode": -9, "rate": Fraction(24000, 1001)}


def all_errors(base: type[ShotladderError] = ShotladderError) -> list[type[ShotladderError]]:
    return [base, *(one for child in base.__subclasses__() for one in all_errors(child))]


ERRORS = sorted(set(all_errors()), key=lambda error: error.__name__)


def raise_it(error: type[ShotladderError]) -> None:
    raise error("asked, found, to do", **CONTEXT)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [
        words[-1] if len(words := row.split("──")) > 1 else words[0]
        for row in (errors.__doc__ or "")
        .split("::\n", 1)[1]
        .split("\n\nErrors cross")[0]
        .split("\n")
        if row.strip()
    ]
    assert {row.split()[0] for row in drawn} == {
        error.__name__ for error in ERRORS if error.__module__ == errors.__name__
    }


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(error: type[ShotladderError], protocol: int) -> None:
    original = error("asked, found, to do", **CONTEXT)
    copy = pickle.loads(pickle.dumps(original, protocol))
    assert type(copy) is error
    assert (copy.message, copy.context, str(copy)) == (
        original.message,
        original.context,
        "asked, found, to do",
    )
    assert error.__doc__


def test_every_error_crosses_a_process_boundary() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for error in ERRORS:
            raised = pool.submit(raise_it, error).exception(timeout=60)
            assert type(raised) is error
            assert (raised.message, raised.context) == ("asked, found, to do", CONTEXT)


def test_a_users_mistake_is_told_from_a_failure() -> None:
    assert {error.__name__ for error in ERRORS if issubclass(error, BadInput)} == {
        "BadInput",
        "SourceUnusable",
        "SourceChanged",
        "OutputUnwritable",
        "NotThere",
        "Conflict",
    }
    assert not issubclass(ToolFailed, BadInput)
