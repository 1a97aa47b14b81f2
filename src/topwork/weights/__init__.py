"""Pretrained weights: read from any file without running its code, checked, kept, fetched when asked."""
