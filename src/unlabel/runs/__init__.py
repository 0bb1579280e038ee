"""The run folder: what it holds, how it was made, and what it came from."""
