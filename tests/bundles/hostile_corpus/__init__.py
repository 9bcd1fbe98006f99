"""The published corpus of hostile bundles: what it is, how it is made, how it is laid out.

`python -m tests.bundles.hostile_corpus` writes ``tests/assets/hostile_bundles/``. Most of it is
signed, properly, by a member of the hub that is attacked: a signature is no reason for trust.
"""
