"""When the frames of a title are shown: a constant rate, its two ends, and holes between."""
