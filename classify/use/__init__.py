"""Using what was trained: saved models on new images, and as networks for other programs."""
