"""What an audit is given: models as tables of outputs, images, the question asked of them, and the rules."""
