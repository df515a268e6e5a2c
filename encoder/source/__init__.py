"""What a source file is, and how its frames are read exactly."""
