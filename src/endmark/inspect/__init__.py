"""Inspection of a padded batch, a stored replay or a run: explained masks, findings, an HTML page."""
