"""The workers' side: Beam steps and the pure functions they wire."""
