"""Calibration of predicted references: worlds whose full Retrain is known."""
