"""Strategies that need gradients: fine-tuning and training from scratch."""
