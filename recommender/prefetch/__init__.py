"""``prefetch.json``: which files to fetch before playback starts, and which to keep in a cache.

:mod:`~recommender.prefetch.document` defines the document for its readers,
:mod:`~recommender.prefetch.build` makes it from a written package,
:mod:`~recommender.prefetch.demand` says how often a play asks for each file.
"""
