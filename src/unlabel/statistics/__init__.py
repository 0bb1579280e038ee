"""Figures with their errors: estimates from images, contrasts with retrained models."""
