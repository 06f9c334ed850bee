"""Predictions held against experts, and the program held against its peers."""
