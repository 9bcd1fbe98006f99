"""How the tables came to be: Alembic's folder, see `hub_server.registry.upgrading`."""
