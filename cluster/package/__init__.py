"""A finished package: how it is written, and what can be read from it."""
