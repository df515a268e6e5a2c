"""What a user decides about a source, where the source itself leaves a choice.

Each choice is described here once, by its field of :class:`SourceChoices`. Options of a command and
of a run have the defaults of :data:`DEFAULT_CHOICES`, and commands the text of :func:`help_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from encoder.errors import BadInput
from encoder.source.sound.layout import parse_layout

Tail = Literal["hold", "cut"]
"""What happens where sound and pictures do not begin or end together."""
TAILS: tuple[Tail, ...] = ("hold", "cut")


@dataclass(frozen=True, slots=True)
class SourceChoices:
    """How to read a source that can be read in several ways. The defaults suit most sources."""

    tail: Tail = field(
        default="hold",
        metadata={
            "help": "What is done where sound begins over half a second before the pictures or "
            "ends over half a second after them. `hold`: the first picture is held from the "
            "beginning of the sound, the last one until the sound ends or for as long as the file "
            "says, up to 10 minutes each. `cut`: the title begins and ends with its pictures, and "
            "the sound is cut there."
        },
    )
    program: int | None = field(
        default=None,
        metadata={
            "help": "Number of the programme (service) of a transport stream that is the title; "
            "`doctor` lists them. It is followed over changes of its PIDs. [default: the first "
            "with pictures]"
        },
    )
    accept_truncated: bool = field(
        default=False,
        metadata={
            "help": "Accept a file that is shorter than it states (a torn upload), and package "
            "what is there."
        },
    )
    # Its grammar is that of encoder.source.sound.layout.
    audio_layout: str | None = field(
        default=None,
        metadata={
            "help": "Sounds of the title, the first of which plays by default, such as "
            "`1+2,5.1=3+4+5+6+7+8,commentary=9`. A sound is one track, two (left, right) or six "
            "(left, right, centre, LFE, left and right surround), as `doctor` numbers them; `3.5` "
            "is the fifth channel of track 3. Tracks that are not listed are left out. [default: "
            "every track, those of one channel joined where the file or the order of masters says "
            "how]"
        },
    )

    def check(self) -> None:
        """Check the values, of which a source has not been asked yet.

        Raises:
            BadInput: a value cannot be right for any source.
        """
        if self.tail not in TAILS:
            raise BadInput(f"no tail {self.tail!r}; choose one of {', '.join(TAILS)}")
        number = self.program
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 1 << 16
        ):
            raise BadInput(f"no programme {number!r}; give its number, 1 to 65535")
        if not isinstance(self.accept_truncated, bool):
            raise BadInput(f"accept_truncated is {self.accept_truncated!r}; give True or False")
        if self.audio_layout is not None:
            parse_layout(self.audio_layout)

    @classmethod
    def from_document(cls, options: Mapping[str, Any]) -> SourceChoices:
        """Return the choices among a run's options; what they lack has its default."""
        return cls(**{f.name: options[f.name] for f in fields(cls) if f.name in options})


DEFAULT_CHOICES = SourceChoices()
"""Choices of a user who made none."""


def help_of(choice: str) -> str:
    """Return what a choice, a field of :class:`SourceChoices`, means to a user."""
    (text,) = (f.metadata["help"] for f in fields(SourceChoices) if f.name == choice)
    return str(text)
