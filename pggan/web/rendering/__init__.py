"""Drawing: one thread for pictures, one for long work, and the models that they use."""
