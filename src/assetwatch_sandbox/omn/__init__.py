"""OMN: import and object state of many assets at a time, XML unless switched otherwise.

Written from the vendor's published developer guide, releases 5.12 to 6.4.
"""

from assetwatch_sandbox.omn.standin import Omn

__all__ = ["Omn"]
