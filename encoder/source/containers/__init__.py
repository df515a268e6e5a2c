"""What the structure of a file states, read from its bytes where libavformat does not tell."""
