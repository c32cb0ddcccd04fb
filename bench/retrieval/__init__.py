"""Full-ranking quality of the product's own retrieval on any interactions, beside popularity and sequential kNN."""
