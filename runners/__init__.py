"""One workitem on one machine."""
