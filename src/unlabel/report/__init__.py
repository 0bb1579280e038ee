"""The report of an audited run: a page (`page`, from `tables`, `sentences` and `charts`), a card (`card`)."""
