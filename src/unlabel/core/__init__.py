"""What every room stands on: errors, requests, recipes, files, randomness, processes, progress."""
