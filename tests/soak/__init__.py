"""The soak: many processes work with one cached store while it is broken in every way.

``plan``       what is cached, the figures that everybody goes by, what is recorded
``worker``     a process with threads and tasks that use the cache, seeded
``conductor``  a process that owns the server and breaks it, seeded
``model``      the rules: finds in the records what may not be
``program``    starts them all, feeds the model, says what happened

    make soak SECONDS=60 SEED=7
"""
