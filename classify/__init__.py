"""Stage 2: cached features and networks, heads, measurements and what they show."""
