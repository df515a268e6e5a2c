"""The HTTP service: clients submit titles, and read ladders, prefetch manifests and artwork.

::

    serving                       assembles the service from the parts below
    http/     api, routes_*       the FastAPI application and its OpenAPI document
              middleware, reading the reading path: stored responses, sent as they are stored
              files               media and files of packages, answered there too
              following           event streams: one look at the tables for all listeners
              queries             query parameters of documents, declared once
              problems, auth, context
              connections, hosts  what strangers' connections may cost, and which names they ask
    queue/    table, jobs, leases the job table, as clients and as runners use it
              runner, work        take jobs from the table and run them in processes
              webhooks            signed notifications that a job has ended
    library/  library, files      published titles, their versions, changes and takedowns
              bundle, cutting     all responses about one package in one file
    database, migrations          SQLite through SQLAlchemy
    sources, web                  which sources may be read, and how they are fetched
    documents, options            requests and answers as types
    redaction                     what URLs keep to themselves
    client/                       Python clients, blocking and awaited, over the same calls

The tables and the files of the library are the only state: any process may be killed at any moment.
What is not in the tables has not happened, and a job that was cut off resumes from the store.
"""
