"""Retrained models that an audit compares with: trained in full, or for a share of the epochs."""
