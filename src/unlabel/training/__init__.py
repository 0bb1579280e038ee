"""Training: one loop for training, retraining and repairs, and the command's work."""
