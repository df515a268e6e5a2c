"""Everything that can go wrong, on one page.

::

    ShotladderError
     ├── BadInput               the user must change something; one line, no traceback
     │    ├── SourceUnusable    the source cannot be read, or not by us
     │    ├── OutputUnwritable  the place for results does not take them
     │    ├── NotThere          the service has no such job, title or file
     │    └── Conflict          it cannot be done in the state that a job or title is in
     ├── ToolFailed             ffmpeg ended with an error; carries its own reproduction
     │    └── ToolTimedOut      ffmpeg passed its time limit and was killed
     ├── FrameMismatch          what was read is not the frames that were asked for
     ├── VerificationFailed     a package does not decode to what was measured
     ├── Infeasible             no ladder satisfies the constraints; says which and by how much
     ├── GateFailed             a comparison passed a limit that was set for it
     ├── StoreUnusable          the store cannot be read or written (disk full, no permission)
     ├── ServiceUnusable        the service does not answer, or answers that it cannot now
     │    └── Busy              it has as much to do as it takes
     ├── LeaseLost              a job is another runner's by now; nothing was written about it
     └── WorkerLost             every worker that ran a piece of work died

Errors cross process boundaries, so every class is built as ``cls(message, **context)`` and
survives pickling (a test pickles them all). The message is one line: what was asked, what was
found, what to do.
"""

from __future__ import annotations

from typing import Any


class ShotladderError(Exception):
    """Base of all errors raised on purpose. ``context`` holds facts for logs and JSON."""

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.context)


def _rebuild(cls: type[ShotladderError], message: str, context: dict[str, Any]) -> ShotladderError:
    return cls(message, **context)


class BadInput(ShotladderError):
    """What was asked cannot be done as asked; the user can put it right."""


class SourceUnusable(BadInput):
    """The source is missing, is not a video, or is one that we do not handle."""


class OutputUnwritable(BadInput):
    """The output directory cannot take the package."""


class NotThere(BadInput):
    """There is no such job, title or file (any more). Context: ``reason``."""


class Conflict(BadInput):
    """It cannot be done in the state that things are in. Context: ``reason``."""


class ToolFailed(ShotladderError):
    """ffmpeg failed. Context: ``command`` (shell-quoted), ``returncode``, ``stderr`` (tail)."""


class ToolTimedOut(ToolFailed):
    """ffmpeg did not end within its time limit and was killed."""


class FrameMismatch(ShotladderError):
    """The frames that came are not those asked for: wrong count or wrong content."""


class VerificationFailed(ShotladderError):
    """The package on disk does not decode to what was encoded and measured."""


class Infeasible(ShotladderError):
    """No choice of operating points satisfies the constraints."""


class GateFailed(ShotladderError):
    """What was compared is worse than the limits allow."""


class StoreUnusable(ShotladderError):
    """The artifact store cannot be read or written."""


class ServiceUnusable(ShotladderError):
    """The service does not answer, or says that it cannot do what it should."""


class Busy(ServiceUnusable):
    """The service has as much to do as it takes; later it may take more."""


class LeaseLost(ShotladderError):
    """A job is somebody else's by now, or cancelled; what was to be written was not."""


class WorkerLost(ShotladderError):
    """Every worker that ran a piece of work died, and so nothing is known of it."""
