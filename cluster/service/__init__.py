"""The HTTP service: jobs in, ladders and prefetch manifests out.

::

    api, routes_jobs, routes_titles   what is asked over HTTP, as values; documents, problems
    reading, bundle                   the reading path: stored forms, sent as they are stored
    jobs, leases, transitions         the table of jobs: what happens to a job, and when
    library, files                    published titles, their versions, changes and takedowns
    runner, work                      takes jobs from the table and runs them in processes
    database, migrations              SQLite through SQLAlchemy
    auth, sources, web, webhooks      who may ask, what may be read, who is told
    serving                           puts it together; client is its other end

The table and the library are the truth. Any process may be killed at any moment: what is not in
the table has not happened, and what is half done is done again from the store.
"""
