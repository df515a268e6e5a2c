"""Which policies there are, which one is live on which day, and which is its shadow."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from cluster.policy.files import TrainedPolicy, read_policy
from cluster.policy.place import Place, day_start
from cluster.store.files import atomic_write
from encoder.errors import BadInput, StoreUnusable
from recommender.policy.exploring import UNTRAINED


@dataclass(frozen=True, slots=True)
class Promotion:
    """A policy was made live from the next day on."""

    policy: str
    at: float
    replaced: str
    forced: bool = False
    """True where it did not pass the gate."""


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody asked whether a policy may replace the live one."""

    policy: str
    incumbent: str
    at: float
    passed: bool


_Line = TypeVar("_Line", Promotion, Question)


class Registry:
    """The policies of a service. Policies are files of their own, so several processes may read
    while one promotes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._read: dict[str, TrainedPolicy] = {}
        self._reading = threading.Lock()
        self._promotions: tuple[tuple[int, int], list[Promotion]] | None = None

    def names(self) -> list[str]:
        """Return the names of all trained policies, the oldest first."""
        paths = sorted(
            self.place.policies.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns
        )
        return [path.stem for path in paths]

    def policy(self, name: str) -> TrainedPolicy | None:
        """Return a policy by its name; None for the untrained one.

        Raises:
            BadInput: there is none of this name, or it cannot be read.
        """
        if name == UNTRAINED:
            return None
        with self._reading:
            return self._held(name)

    def _held(self, name: str) -> TrainedPolicy:
        if name not in self._read:
            if len(self._read) >= 4:  # live, shadow, and those of the day before
                self._read.pop(next(iter(self._read)))
            if "/" in name or not (self.place.policies / f"{name}.safetensors").exists():
                known = ", ".join([*self.names()[-5:], UNTRAINED])
                raise BadInput(f"there is no policy {name!r}; there are {known}")
            self._read[name] = read_policy(self.place.policies / f"{name}.safetensors")
        return self._read[name]

    # -- live ----------------------------------------------------------------------------------

    def promotions(self) -> list[Promotion]:
        """Return all promotions, the oldest first."""
        path = self.place.root / "promotions.jsonl"
        try:
            status = path.stat()
        except FileNotFoundError:
            return []
        stamp = status.st_mtime_ns, status.st_size
        if self._promotions is None or self._promotions[0] != stamp:
            self._promotions = stamp, _read(path, Promotion)
        return self._promotions[1]

    def live_on(self, day: date, starts_hour: int = 0) -> str:
        """Return the policy of a day: the last one that was promoted before the day began, so that
        a promotion changes no picture in the middle of a day."""
        return self.live_at(day_start(day, starts_hour))

    def live_at(self, moment: float) -> str:
        """Return the policy that was last promoted before a moment."""
        past = [one.policy for one in self.promotions() if one.at < moment]
        return past[-1] if past else UNTRAINED

    def newest(self) -> str:
        """Return the policy that was promoted last, live already or from the next day on."""
        return self.live_at(float("inf"))

    def promote(self, name: str, *, forced: bool = False, now: float | None = None) -> Promotion:
        """Make a policy live from the next day on.

        Raises:
            BadInput: there is none of this name.
        """
        self.policy(name)
        promotion = Promotion(name, time.time() if now is None else now, self.newest(), forced)
        self._append("promotions.jsonl", promotion)
        return promotion

    # -- questions and shadow ------------------------------------------------------------------

    def questions(self, incumbent: str) -> list[Question]:
        """Return all questions whether something may replace ``incumbent``."""
        path = self.place.root / "questions.jsonl"
        found = _read(path, Question) if path.exists() else []
        return [one for one in found if one.incumbent == incumbent]

    def note(self, question: Question) -> None:
        """Note a question, so that the next one is judged more strictly."""
        self._append("questions.jsonl", question)

    def shadow(self) -> str | None:
        """Return the name of the policy that is logged beside the live one; None for none."""
        try:
            text = (self.place.root / "shadow").read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return text or None

    def set_shadow(self, name: str | None) -> None:
        """Log a policy beside the live one, or none.

        Raises:
            BadInput: there is none of this name.
        """
        if name is not None:
            self.policy(name)
        atomic_write(self.place.root / "shadow", f"{name or ''}\n".encode())

    def _append(self, name: str, line: Promotion | Question) -> None:
        path: Path = self.place.root / name
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate(_whole(file.read()))
            file.write(json.dumps(asdict(line)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _whole(content: bytes) -> int:
    """Return the length of the whole lines; a line without an end was torn when it was written, as
    by a full disk, and whoever wrote it was told so."""
    return content.rfind(b"\n") + 1


def _read(path: Path, kind: type[_Line]) -> list[_Line]:
    content = path.read_bytes()
    try:
        return [kind(**json.loads(line)) for line in content[: _whole(content)].splitlines()]
    except (ValueError, TypeError) as error:
        raise StoreUnusable(
            f"{path} holds a line that is no {kind.__name__.lower()} ({error}); restore the file "
            "from a backup, or remove the line"
        ) from error
