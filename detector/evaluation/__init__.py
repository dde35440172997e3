"""Scores: how good are detections and classifiers, by which rule."""
