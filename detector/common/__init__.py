"""What all parts share: whole files, object storage, progress, prefetching, CPU count."""
