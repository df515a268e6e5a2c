"""Published titles: what readers get, and how it lies on disk."""
