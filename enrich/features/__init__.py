"""Shape and first-order features, by pyradiomics' definitions."""
