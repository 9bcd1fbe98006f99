"""A site in a federation: what it allows, what it does when it is asked, and the agent."""
