"""Policies that choose artwork: what they know, how they draw, what they earned and would have.

Everything here is pure: probabilities follow from a policy, a context and a pool, and a draw from
those and a seed. :mod:`cluster.policy` keeps the log and the policies,
:mod:`cluster.service.decisions` answers requests.
"""
