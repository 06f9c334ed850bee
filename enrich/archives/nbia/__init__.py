"""Collections of an NBIA as archives that are only read."""
