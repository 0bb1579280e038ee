"""What an audit could decide and what it would cost, before anything is trained or attacked."""
