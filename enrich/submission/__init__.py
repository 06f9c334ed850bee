"""Results as other archives take them: the Imaging Data Commons, The Cancer Imaging Archive, Zenodo."""
