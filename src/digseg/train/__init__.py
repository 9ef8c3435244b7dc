"""Training: labelled pictures to a pipeline folder. Level 5."""
