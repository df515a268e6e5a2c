"""The complexity model: a shot's rate-quality curves from its features, before any encode."""
