"""Region classification: crops, the ensemble, its cascade, and non-maximum suppression."""
