"""What one decode of a title tells: frames for every analyser, shots, features."""
