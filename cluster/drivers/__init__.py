"""Who does the work: agents and what they are told to do, on this machine, on Ray, under a scheduler of arrays."""
