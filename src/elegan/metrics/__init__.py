"""Metrics: what two sets of samples, or of their features, say of each other, one file each, in fp64.

Three train something of their own (`cas`, `two_sample`, `duality_gap`). `protocol`, `features`, `catalogue` and
`evaluation` make scores of them: values that say what was compared.
"""
