"""The commands `assetwatch pieces`: the assets of a Pieces OS, all fifteen operations of its API."""
