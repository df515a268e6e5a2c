"""Decisions: curves, hulls, allocation, rungs, baselines, BD-rate.

Pure: takes numbers, returns numbers. No ffmpeg, no Dask, no files.
"""
