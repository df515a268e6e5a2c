"""Everything that reads or writes media: probing, frames, shots, encodes and packages.

No other package starts ffmpeg, and this one only through :mod:`encoder.ffmpeg`.
"""
