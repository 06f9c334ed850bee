"""What a run did cost, and for what."""
