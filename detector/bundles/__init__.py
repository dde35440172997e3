"""Bundles: a detector's networks, classes and settings in one directory."""
