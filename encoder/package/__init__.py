"""Packages: CMAF segments with HLS and DASH playlists over the same files.

- :mod:`~encoder.package.layout` the input and the written package as values, and bitrates
- :mod:`~encoder.package.audio` the title's audio, encoded once and cut near the shot boundaries
- :mod:`~encoder.package.subtitles` text subtitles as WebVTT, cut at the shot boundaries
- :mod:`~encoder.package.styled` and :mod:`~encoder.package.ass` subtitles with places and drawings
- :mod:`~encoder.package.hls` and :mod:`~encoder.package.dash` the text of the playlists
- :mod:`~encoder.package.write` all files on disk
- :mod:`~encoder.package.readback` a parser of the playlists, as a player has one
- :mod:`~encoder.package.verify` proof that a package decodes to the frames that were scored
"""
