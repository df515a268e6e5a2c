"""Timestamps for sources that have none, or none that can be trusted.

Raw streams, and AVI or ASF with B-frames, are copied (not encoded) into a container that states
when each picture is shown, because all other modules find frames by their time.
"""

from encoder.source.timestamps.copies import TIMED_SUFFIXES, ensure_timestamps, timed_path

__all__ = ["TIMED_SUFFIXES", "ensure_timestamps", "timed_path"]
