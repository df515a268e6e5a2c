"""Policies for artwork, as files: the log of decisions, the trained policies, which one is live."""
