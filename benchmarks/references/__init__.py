"""What experts marked, on the grid of the image: one file per format."""
