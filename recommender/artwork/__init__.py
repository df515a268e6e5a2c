"""Artwork candidates: which stills of a title are worth showing, with the evidence to choose.

Data flows in one direction. :mod:`~recommender.artwork.sampling` measures stills during the one
decode of the title, :mod:`~recommender.artwork.filters` drops the unusable ones,
:mod:`~recommender.artwork.diversity` groups the rest and picks from every group
(:mod:`~recommender.artwork.pool` runs these steps), :mod:`~recommender.artwork.crops` frames the
chosen ones, :mod:`~recommender.artwork.build` makes the files and
:mod:`~recommender.artwork.document`, and :mod:`~recommender.artwork.select` is what a service
answers from that document.
"""
