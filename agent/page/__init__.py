"""The data page: MRZ (Doc 9303), layout and raster."""
