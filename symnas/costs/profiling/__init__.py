"""Times of single operations, and how they add up to the time of a network."""
