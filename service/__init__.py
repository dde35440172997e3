"""Detection over HTTP, with the same detections as `detector-run`."""
