"""Decisions: curves, hulls, allocation, rungs, searches, baselines, BD-rate.

Pure: numbers in, numbers out. No ffmpeg and no Dask; profiles and weights are the only files.
"""
