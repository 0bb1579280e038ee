"""Audits of models that are only read: files of outputs, and deployed models."""
