"""Logs of the service and its libraries: one JSON object per line, on stderr."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import structlog

from cluster.service.redaction import for_logs


def log_as_json(level: int = logging.INFO) -> None:
    """Configure this process to log JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _cut_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("cluster").setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.INFO)


class SparseLog:
    """Logs what strangers can cause, at most so many lines a second, and counts the others."""

    def __init__(self, log: structlog.stdlib.BoundLogger, lines_per_second: int = 20) -> None:
        self._log = log
        self._lines_per_second = lines_per_second
        self._second, self._lines, self._left_out = 0, 0, 0

    def warning(self, event: str, **facts: Any) -> None:
        """Log a warning, with the number of those that were left out before it."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > self._lines_per_second:
            self._left_out += 1
            return
        if self._left_out:
            facts["left_out_before"], self._left_out = self._left_out, 0
        self._log.warning(event, **facts)


def _cut_secrets(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Cut secrets out of the URLs in an entry."""
    return {
        name: for_logs(value) if isinstance(value, str | dict | list) else value
        for name, value in event.items()
    }
