"""Pages for people: one file each, with plots and thumbnails inside, that open without a network."""
