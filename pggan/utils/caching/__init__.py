"""The user's caches: their limits, and files of the Hugging Face Hub in one of them."""
