"""Where and when tasks run, and never what they do; the only code that knows Dask."""
