"""An image with a folder in and a folder out: how it is named, run and read."""
