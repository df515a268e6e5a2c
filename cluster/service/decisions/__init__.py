"""Answers which picture to show, and takes what became of it."""
