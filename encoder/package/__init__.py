"""The ladder as files a player reads: CMAF segments, HLS and DASH over the same files.

- :mod:`~encoder.package.layout` the input and the written package as values, and rates
- :mod:`~encoder.package.audio` the title's sound, encoded once and cut near the video's boundaries
- :mod:`~encoder.package.hls` and :mod:`~encoder.package.dash` the playlists, as pure text
- :mod:`~encoder.package.write` everything onto disk
- :mod:`~encoder.package.readback` the playlists read again, as a player would
- :mod:`~encoder.package.verify` proof that the package decodes to the frames that were measured
"""
