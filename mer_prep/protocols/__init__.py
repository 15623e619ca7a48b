"""Evaluation protocols: folds, frozen with a digest, and the proof that nothing leaks."""

from mer_prep.protocols.folds import Fold, Member, folds_digest
from mer_prep.protocols.frozen import FrozenFolds, read_folds, write_folds
from mer_prep.protocols.leaks import check_folds, original, person, person_of
from mer_prep.protocols.protocol import (
    PROTOCOLS,
    Protocol,
    ProtocolCard,
    check_protocol,
    make_folds,
    protocol_card,
)

__all__ = [
    "PROTOCOLS",
    "Fold",
    "FrozenFolds",
    "Member",
    "Protocol",
    "ProtocolCard",
    "check_folds",
    "check_protocol",
    "folds_digest",
    "make_folds",
    "original",
    "person",
    "person_of",
    "protocol_card",
    "read_folds",
    "write_folds",
]
