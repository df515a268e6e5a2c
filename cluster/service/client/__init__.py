"""Typed clients of the service, for ingest jobs and recommender services.

::

    with Client("http://ladders:8480", token) as client:
        job = client.submit("/media/film.mp4", external_id="film-1")
        done = client.wait(job.id)
        start = client.start("film-1", kbps=3000)

    async with AsyncClient("http://ladders:8480") as client:
        start = await client.start("film-1", kbps=3000)

Requests are repeated while the service does not answer, for example during a restart. Submissions
carry an ``Idempotency-Key``, so that a repeated submission never makes two jobs.

What a call does is decided once: :mod:`.job_calls`, :mod:`.title_calls` and :mod:`.decision_calls`
say which requests it takes, :mod:`.connection` when they are repeated, as steps (:mod:`.steps`)
that the two clients of :mod:`.clients` perform.
"""

from cluster.service.client.answers import invalid
from cluster.service.client.clients import AsyncClient, Client
from cluster.service.decision_documents import OutcomeReport

__all__ = ["AsyncClient", "Client", "OutcomeReport", "invalid"]
