"""What a site of limited size holds, when not all of it can be foreseen.

A plan says which files a site keeps (:mod:`~recommender.sites.filling`), by a forecast of plays
with its uncertainty (:mod:`~recommender.sites.forecast`). What the plan leaves free belongs to a
pull cache (:mod:`~recommender.sites.pulling`); :mod:`~recommender.sites.site` is both together.
How much is planned follows what planning would have brought (:mod:`~recommender.sites.share`).
:mod:`~recommender.sites.sessions` makes requests from a log of plays, and
:mod:`~recommender.sites.replay` counts what a site saves. Pure: numbers in, numbers out.
"""
