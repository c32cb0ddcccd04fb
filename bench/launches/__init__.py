"""How long a title that lands takes to a shelf, and one that closes early to be gone. See README.md."""
