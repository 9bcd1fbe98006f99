"""How large the parts of a bundle may be."""

from __future__ import annotations

MAX_SHARD_BYTES = 2 << 30
MAX_SHARDS = 3000
"""Keeps the JSON files well under `_json.MAX_JSON_BYTES`; 3000 full shards are 6 TB."""
MAX_SHARD_TILES = 4_000_000
"""A full shard of the smallest tiles (16 px) holds 2.8 million. Bounds what a reader keeps."""
