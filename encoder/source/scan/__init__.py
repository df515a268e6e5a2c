"""Interlaced or progressive: what flags and pictures tell, and which frames are deinterlaced."""
