"""Dated price tables of machines, one file per source."""
