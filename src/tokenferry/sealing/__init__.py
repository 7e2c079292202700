from tokenferry.sealing._box import BrokenSeal, close_box, open_box
from tokenferry.sealing._key import SealKey
from tokenferry.sealing._keyring import SystemKeyring
from tokenferry.sealing._marker import Marker, Place

__all__ = ["BrokenSeal", "Marker", "Place", "SealKey", "SystemKeyring", "close_box", "open_box"]
