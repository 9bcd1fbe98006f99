"""Training models: the program `pixcell-train`. So far it trains `nano`."""
