"""Quality and performance against peers; each benchmark prints the table that its README section holds."""
