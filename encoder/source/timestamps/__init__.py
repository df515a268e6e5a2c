"""Copies of sources whose frames cannot be found by time as they are.

Raw streams, and AVI or ASF with B-frames, are copied (not encoded) into a container that states
when each picture is shown. Transport streams of several programmes, or with a clock that jumps, are
copied into one that holds one programme on one clock.
"""

from encoder.source.timestamps.copies import (
    TIMED_SUFFIXES,
    ensure_timestamps,
    naming_source,
    prepare,
    timed_path,
)

__all__ = ["TIMED_SUFFIXES", "ensure_timestamps", "naming_source", "prepare", "timed_path"]
