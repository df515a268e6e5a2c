"""Sources: what a file holds, and how its frames are read exactly."""
