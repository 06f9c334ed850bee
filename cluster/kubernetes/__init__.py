"""Cells on Kubernetes: their manifests, the fleet kept up, and what a user is told of it."""
