"""Sections of the report page, as plain values for the templates."""
