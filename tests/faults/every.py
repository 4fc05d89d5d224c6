"""Every fault: importing this registers them, each in the module of its subject."""

from tests.faults import clock, clusters, company, damage, kills, locks, permissions, room, strangers

__all__ = ["clock", "clusters", "company", "damage", "kills", "locks", "permissions", "room", "strangers"]
