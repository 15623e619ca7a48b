"""Evaluation protocols: folds, frozen with a digest, and the proof that nothing leaks."""

from mer_prep.protocols.folds import Fold, Member, folds_digest, read_folds, write_folds
from mer_prep.protocols.leaks import check_folds, original, person
from mer_prep.protocols.protocol import PROTOCOLS, Protocol, ProtocolCard, make_folds, protocol_card

__all__ = [
    "PROTOCOLS",
    "Fold",
    "Member",
    "Protocol",
    "ProtocolCard",
    "check_folds",
    "folds_digest",
    "make_folds",
    "original",
    "person",
    "protocol_card",
    "read_folds",
    "write_folds",
]
