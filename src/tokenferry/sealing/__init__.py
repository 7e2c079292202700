from tokenferry.sealing._box import BrokenSeal, close_box, open_box
from tokenferry.sealing._key import SealKey
from tokenferry.sealing._keyring import SystemKeyring
from tokenferry.sealing._marker import KeyPlace, Marker

__all__ = ["BrokenSeal", "KeyPlace", "Marker", "SealKey", "SystemKeyring", "close_box", "open_box"]
