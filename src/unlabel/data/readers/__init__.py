"""Readers of data on disk: a folder of photos, and the public data sets in their own layout."""
