"""Faces in pictures: their landmarks, how a model frames them, and what they tell."""
