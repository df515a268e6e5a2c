"""What a recommender service reads: artwork candidates and prefetch manifests."""
