"""Where a run stands, in figures, words and pages."""
