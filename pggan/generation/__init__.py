"""Images and videos of a trained model."""
