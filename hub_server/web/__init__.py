"""The hub on the network: an API for sites, pages for people."""
