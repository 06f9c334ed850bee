"""Zip and tar files of DICOM files as archives that are only read."""
