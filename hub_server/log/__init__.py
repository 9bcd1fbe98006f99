"""The hub's log: every act in one file, chained, in a Merkle tree, and signed for.

The hub appends with `HubLog`. Anybody with the hub's public key checks a copy with `verify_log`,
or one act with an `InclusionProof`, or that nothing was taken back with a `ConsistencyProof`.
"""

from hub_server.log.act import Act
from hub_server.log.checkpoint import Checkpoint, read_checkpoint
from hub_server.log.hub_log import HubLog
from hub_server.log.proofs import (
    ConsistencyProof,
    InclusionProof,
    prove_consistency,
    prove_inclusion,
    read_proof,
)
from hub_server.log.searching import ActFilter, FoundActs, history, search
from hub_server.log.verifying import VerifiedLog, verify_log

__all__ = [
    "Act",
    "ActFilter",
    "Checkpoint",
    "ConsistencyProof",
    "FoundActs",
    "HubLog",
    "InclusionProof",
    "VerifiedLog",
    "history",
    "prove_consistency",
    "prove_inclusion",
    "read_checkpoint",
    "read_proof",
    "search",
    "verify_log",
]
