"""The report of an audited run: a page (`page`, from `rows`, `sentences` and `plots`), a card (`card`)."""

from unlabel.report.card import card, write_card
from unlabel.report.page import check_page, render, write_report

__all__ = ["card", "check_page", "render", "write_card", "write_report"]
