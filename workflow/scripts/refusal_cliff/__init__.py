"""Probes, cliffs, heads and selections for refusal in reasoning models (arXiv 2510.06036)."""
