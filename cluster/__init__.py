"""The composition root: store, stages, Dask, jobs, command line."""
