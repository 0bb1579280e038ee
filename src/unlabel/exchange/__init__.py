"""Models that come in and go out: adopt, check, export, predict."""
