"""How a model's handle becomes a SavedModel on this machine: cache, archives, downloads. See `pipeline.resolve`."""
