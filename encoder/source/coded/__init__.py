"""Headers and packets of coded pictures, read for what demuxers do not report."""
