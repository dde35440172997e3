"""Command lines: arguments in, calls out."""
