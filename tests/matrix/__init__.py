"""The failure matrix: every strategy in every state of a real store.

world    the servers, real ones, started when a state first needs them
scene    cached functions on a store behind a proxy, and what harms them
states   the rows: what is done to the store, what the caller must get
runs     runs a row and names what was observed
page     writes docs/failure-matrix.md from the runs
"""
