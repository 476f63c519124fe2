"""Faults, simulation plans and checkers: drives everything below; nothing below knows it."""
