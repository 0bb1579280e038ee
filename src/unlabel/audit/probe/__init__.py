"""What one model tells of a label, without unlearning: the command `unlabel probe`."""
