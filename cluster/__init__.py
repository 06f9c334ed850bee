"""Many workitems on many machines, and what they cost."""
