"""The store of HDF5 shards: keys, locks, publication, reading, verification."""
