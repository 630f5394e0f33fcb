"""The synthetic mark: what generated pictures and videos carry so that other programs know what they are."""
