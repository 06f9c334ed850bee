"""Trained nnU-Net v2 folders, loaded safely and run within bounded memory."""
