"""A small reference authority for trials, tests and training: it issues, and it reads receipts.

It is no part of the station and shares nothing with it but the contract and the cryptography.
"""

from __future__ import annotations

from agent.authority.audit import Audit, Entry
from agent.authority.issuer import Authority
from agent.authority.people import random_document

__all__ = ["Audit", "Authority", "Entry", "random_document"]
