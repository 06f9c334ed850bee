"""The NCI Imaging Data Commons as an archive that is only read."""
