"""What a recommender reads: artwork candidates and prefetch manifests. Pure."""
