"""Ground truth: one type, and a reader for each format of annotations."""
