"""Measured quality: the filter graph, one call, parsed scores, pooling."""
