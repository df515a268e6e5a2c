"""All errors that are raised on purpose, on one page.

::

    ShotladderError
     ├── BadInput               the user must change something; one line, no traceback
     │    ├── SourceUnusable    the source cannot be read or is not supported
     │    │    └── SourceChanged   the source is being written, or changed while it was read
     │    ├── OutputUnwritable  the output directory cannot take the package
     │    ├── NotThere          the service has no such job, title or file
     │    └── Conflict          the state of a job or title does not allow the request
     ├── ReadFailed             the disk or the network failed while the source was read
     ├── ToolFailed             ffmpeg ended with an error; carries the command that did
     │    └── ToolTimedOut      ffmpeg passed its time limit and was killed
     ├── FrameMismatch          a file does not hold the expected frames
     ├── VerificationFailed     a package does not decode to the frames that were scored
     ├── Infeasible             no ladder satisfies the constraints; says which and by how much
     ├── SourcesFailed          of several sources, some failed; the others are done
     ├── GateFailed             a comparison exceeds a limit that was set for it
     ├── StoreUnusable          the store cannot be read or written (disk full, no permission)
     ├── ServiceUnusable        the service does not answer, or cannot serve the request now
     │    └── Busy              the service has no capacity for the request now
     ├── LeaseLost              another runner has taken over the job; nothing was written
     └── WorkerLost             every worker that ran a task died

Errors cross process boundaries, so every class is built as ``cls(message, **context)`` and
survives pickling (a test pickles them all). The message is one line that names the object, the
cause and the remedy, in that order.
"""

from __future__ import annotations

from typing import Any


class ShotladderError(Exception):
    """Base of all errors raised on purpose; ``context`` holds facts for logs and JSON."""

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.context)


def _rebuild(cls: type[ShotladderError], message: str, context: dict[str, Any]) -> ShotladderError:
    return cls(message, **context)


class BadInput(ShotladderError):
    """The request cannot be carried out as given; the user can correct it."""


class SourceUnusable(BadInput):
    """The source is missing, is not a video, or is of a kind that is not supported."""


class SourceChanged(SourceUnusable):
    """The source is no longer what its digest was taken of. Context: ``passing`` is True where
    only its times changed and the work that was read meanwhile has to be done again; ``cause`` is
    the message without the remedy.
    """


class OutputUnwritable(BadInput):
    """The output directory cannot take the package."""


class NotThere(BadInput):
    """The job, title or file does not exist, or no longer. Context: ``reason``."""


class Conflict(BadInput):
    """The current state of a job or title does not allow the request. Context: ``reason``."""


class ReadFailed(ShotladderError):
    """The disk or the network failed while a source was read; another try may succeed."""


class ToolFailed(ShotladderError):
    """ffmpeg failed. Context: ``command`` (shell-quoted), ``returncode``, ``stderr`` (tail)."""


class ToolTimedOut(ToolFailed):
    """ffmpeg exceeded its time limit and was killed."""


class FrameMismatch(ShotladderError):
    """A file holds other frames than expected: wrong count or wrong content."""


class VerificationFailed(ShotladderError):
    """The package on disk does not decode to the frames that were encoded and scored."""


class Infeasible(ShotladderError):
    """No choice of operating points satisfies the constraints."""


class SourcesFailed(ShotladderError):
    """Of several sources, some failed. Context: ``sources``, their paths."""


class GateFailed(ShotladderError):
    """A comparison came out worse than the limits allow."""


class StoreUnusable(ShotladderError):
    """The artifact store cannot be read or written."""


class ServiceUnusable(ShotladderError):
    """The service does not answer, or reports that it cannot serve the request now."""


class Busy(ServiceUnusable):
    """The service has no capacity for the request now; it may have later."""


class LeaseLost(ShotladderError):
    """Another runner has taken over the job, or it was cancelled; nothing was written."""


class WorkerLost(ShotladderError):
    """Every worker that ran a task died, so its outcome is unknown."""
