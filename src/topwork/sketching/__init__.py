"""Drawings classified from their strokes, from their picture, and from both."""
