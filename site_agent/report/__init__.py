"""The private report of a run: what it shows, its words, charts and pictures, and the page."""
