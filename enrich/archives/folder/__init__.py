"""A folder of DICOM files as an archive, and the index that remembers headers of trees of files."""
