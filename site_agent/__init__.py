"""The site agent: from slides to a signed bundle."""
