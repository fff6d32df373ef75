"""What a part really is, and what is inside it."""
