"""What a source is: probed from its headers and its first decoded frame, and refused in time."""
