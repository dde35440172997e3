"""Training: from annotated photos to the weights of a member."""
