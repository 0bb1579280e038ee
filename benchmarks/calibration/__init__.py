"""How often the audit is right where the truth is known: planted tables, simulated scores, the page."""
