"""Measured quality: VMAF models, filter graph, scores and pooling."""
