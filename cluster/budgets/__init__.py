"""What a run may cost, and when it has to stop."""
