"""Printed tables measured anew, each by a program of its own, where a sweep's validation split would not compare."""
