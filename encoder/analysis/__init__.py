"""One decode of a title for all analysers: frames, shots, features."""
