"""A volume in, a segmentation out."""
