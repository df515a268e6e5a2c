"""Artwork candidates: which stills of a title are worth showing, and the evidence to choose.

The data goes one way: :mod:`~recommender.artwork.sampling` measures stills in the one decode of
the title, :mod:`~recommender.artwork.filters` drops the unusable, :mod:`~recommender.artwork.
diversity` groups the rest and picks from every group, :mod:`~recommender.artwork.crops` frames
them, :mod:`~recommender.artwork.document` is what goes out and
:mod:`~recommender.artwork.select` what a service answers from it.
"""
