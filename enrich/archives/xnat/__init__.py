"""Projects of an XNAT as archives."""
