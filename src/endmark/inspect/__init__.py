"""What a padded batch, a stored replay or a run holds: explanations, findings, a page."""
