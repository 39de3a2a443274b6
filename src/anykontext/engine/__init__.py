"""Decides everything and does nothing: pure flows that yield effects to a driver."""
