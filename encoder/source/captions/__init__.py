"""Text of a source: captions in its pictures or tracks, and subtitles beside the pictures."""
