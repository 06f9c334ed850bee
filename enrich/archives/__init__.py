"""One file per kind of archive, each keeping the Archive protocol."""
