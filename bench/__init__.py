"""Quality and performance against peers; each benchmark prints the table that its README section holds."""

import jobs  # noqa: F401 - what it sets must be there before a benchmark loads PyTorch or LightGBM
