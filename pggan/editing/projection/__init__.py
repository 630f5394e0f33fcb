"""The latents of pictures: the search, its loss, and the tuning of a generator around what was found."""
