"""Images from any source to one multi-resolution store, and from the store to training."""
