"""What a verdict's reason says in fixed words, which the page says again or looks for."""

SHUFFLED = "shuffled labels"
"""In the reason if an attack finds labels that were permuted."""
CANNOT_TELL = (
    "On these images the attacks cannot tell even the original, its output removed, from retrained models."
)
