"""Audits of models that can be run: from run folders, or from networks in memory."""
