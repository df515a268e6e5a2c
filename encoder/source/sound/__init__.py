"""Which sounds a title has, of the streams and channels of its source."""
