"""Cached computations on a title. Each is a function of values that runs on any worker."""
