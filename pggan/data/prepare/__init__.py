"""From a source to a store: options, conversion, size estimate, the preparation itself."""
