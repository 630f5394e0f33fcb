"""The explorer: a local page on which people play with a model. `server` is where to begin."""
