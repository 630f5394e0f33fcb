"""Photographs: faces and their landmarks in them (extra `pggan[align]`)."""
