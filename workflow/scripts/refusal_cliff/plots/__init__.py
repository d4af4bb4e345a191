"""Figures, one module per subject. Each function takes tables and returns a figure; `style.save` writes it."""
