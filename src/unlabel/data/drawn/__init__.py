"""Pictures that are drawn on the spot: no download, no licence, no person."""
