"""One file per metric; `catalogue` lists them."""
