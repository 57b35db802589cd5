"""SavedModels made from published weights. Imports nothing else of hublabel."""
