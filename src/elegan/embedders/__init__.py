"""Embedders: fixed networks that turn samples into features, to measure them by. Each names itself by its hash."""
