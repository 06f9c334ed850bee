"""Shape and first-order features by our own code, by pyradiomics' definitions; all others by pyradiomics itself."""
