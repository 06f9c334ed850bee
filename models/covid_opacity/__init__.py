"""Opacities that a network finds, in RICORD's words, inside each lung."""
