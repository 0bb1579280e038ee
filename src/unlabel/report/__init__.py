"""The report page of an audited run: `page` puts it together from `rows`, `sentences` and `plots`."""

from unlabel.report.page import render, write_report

__all__ = ["render", "write_report"]
