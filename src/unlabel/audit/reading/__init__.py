"""From models to tables of outputs and figures, shared out among processes and kept."""
