"""Ground truth: one type for it, and a reader for each format of annotations."""
