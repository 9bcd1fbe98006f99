"""The confined process: what looks inside a shard that a stranger wrote.

Run as a folder (``python -I .../_confined``), and without the rest of pixcell_share: the fewer
lines run here, the fewer can be misused. By now the shard's signature and digest hold, which says
who wrote it, not that HDF5 can read it unharmed. `sandbox` gives up memory, time, files and
network; `shard` then reads the file from a descriptor that was handed over; `look` says what the
pictures are like; `process` puts the three together and answers.
"""
