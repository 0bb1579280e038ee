"""What is concluded: six claims, their verdicts, and the headline."""
