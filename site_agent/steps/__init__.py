"""The steps of a run, in the order of the data: tile, embed, generate, check, release."""
