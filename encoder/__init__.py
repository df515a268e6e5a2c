"""Media in, media out: probe, index, frames, shots, recipes, encodes, packages.

The only package that starts ffmpeg, through one seam (:mod:`encoder.ffmpeg`).
"""
