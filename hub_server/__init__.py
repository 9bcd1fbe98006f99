"""The hub: verify, keep and use bundles."""
