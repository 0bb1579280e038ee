"""What is tried: attacks on models. They return estimates and know no verdict."""
