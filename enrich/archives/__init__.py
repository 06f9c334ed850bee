"""The Archive protocol, one room for each kind of archive, and what the rooms share."""
