from typing import TYPE_CHECKING

from tokenferry.accounts._accounts import AccountList, Accounts
from tokenferry.accounts._age import Aging, aging, check_age, credential_since, parse_max_age, too_old_at
from tokenferry.accounts._changes import AccountChanges
from tokenferry.accounts._implicit import CONFIGURATION, ENVIRONMENT, accounts_from_environment, accounts_from_keys
from tokenferry.accounts._key_command import KeyCommandSettings
from tokenferry.accounts._key_sources import KeySourceSettings, key_sources_of
from tokenferry.accounts._login import account_for, check_wanted, identity_labels
from tokenferry.accounts._machine import machine_id
from tokenferry.accounts._publication import Content, Publication
from tokenferry.accounts._publish import Publications, PublicationStatus
from tokenferry.accounts._sealing import (
    Sealing,
    SealResult,
    SealState,
    SealWord,
    check_key_file,
    lies_in,
    refuse_temporary,
    seal_state,
)
from tokenferry.deferred import deferred

if TYPE_CHECKING:
    from tokenferry.accounts._entry import read_credential
    from tokenferry.accounts._export import SHARED_TARGETS, Limit, Target, exported, write_export
    from tokenferry.accounts._hand_over import HandOver, completion, hand_over, pending_hand_over, take_back
    from tokenferry.accounts._import import check_again, make_offers
    from tokenferry.accounts._offer import Found, Offer
    from tokenferry.accounts._presence import Presence, find_presences, read_presence
    from tokenferry.accounts._relocation import AccountPlace, MovedAccounts, move_accounts
    from tokenferry.accounts._sealed_export import open_export, seal_export
    from tokenferry.accounts._sources import Surroundings, attachable, look_around, look_into, look_through
else:
    __getattr__ = deferred(
        __name__,
        {
            "_entry": ("read_credential",),
            "_export": ("SHARED_TARGETS", "Limit", "Target", "exported", "write_export"),
            "_hand_over": ("HandOver", "completion", "hand_over", "pending_hand_over", "take_back"),
            "_import": ("check_again", "make_offers"),
            "_offer": ("Found", "Offer"),
            "_presence": ("Presence", "find_presences", "read_presence"),
            "_relocation": ("AccountPlace", "MovedAccounts", "move_accounts"),
            "_sealed_export": ("open_export", "seal_export"),
            "_sources": ("Surroundings", "attachable", "look_around", "look_into", "look_through"),
        },
    )

__all__ = [
    "CONFIGURATION",
    "ENVIRONMENT",
    "SHARED_TARGETS",
    "AccountChanges",
    "AccountList",
    "AccountPlace",
    "Accounts",
    "Aging",
    "Content",
    "Found",
    "HandOver",
    "KeyCommandSettings",
    "KeySourceSettings",
    "Limit",
    "MovedAccounts",
    "Offer",
    "Presence",
    "Publication",
    "PublicationStatus",
    "Publications",
    "SealResult",
    "SealState",
    "SealWord",
    "Sealing",
    "Surroundings",
    "Target",
    "account_for",
    "accounts_from_environment",
    "accounts_from_keys",
    "aging",
    "attachable",
    "check_again",
    "check_age",
    "check_key_file",
    "check_wanted",
    "completion",
    "credential_since",
    "exported",
    "find_presences",
    "hand_over",
    "identity_labels",
    "key_sources_of",
    "lies_in",
    "look_around",
    "look_into",
    "look_through",
    "machine_id",
    "make_offers",
    "move_accounts",
    "open_export",
    "parse_max_age",
    "pending_hand_over",
    "read_credential",
    "read_presence",
    "refuse_temporary",
    "seal_export",
    "seal_state",
    "take_back",
    "too_old_at",
    "write_export",
]
