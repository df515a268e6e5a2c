"""Searches: what to measure next, given what has been measured so far."""
