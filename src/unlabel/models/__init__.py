"""Networks: built by name, their head found, their features read."""
