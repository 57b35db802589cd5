"""`hublabel inspect`: what a model takes and gives, told in words, as JSON, and as a config to paste."""
