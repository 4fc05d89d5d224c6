"""Stage 1: images through a frozen trunk into HDF5."""
