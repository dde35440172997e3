"""Runs over many images: ahead in processes, recorded as they go, resumable."""
