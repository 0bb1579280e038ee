"""``audit.json``: read as types, written without loss."""
