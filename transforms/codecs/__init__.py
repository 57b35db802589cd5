"""One module for each image format: its header from the bytes, its pixels from the right library."""
