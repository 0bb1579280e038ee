"""Forgetting: score -> select -> edit -> repair. `driver` runs a method; `methods` is the catalogue."""
