"""What both stages share: data sets, backbones and their cut, the identity of a cache, the HDF5 store."""
