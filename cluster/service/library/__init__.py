"""Published titles: their versions, and their files on disk."""
