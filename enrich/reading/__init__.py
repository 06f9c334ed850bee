"""From files to slices, and from slices to one grid."""
