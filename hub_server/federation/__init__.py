"""The hub in a federation: rounds, the SuperLink that carries them, and what sites answered."""
