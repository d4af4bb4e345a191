"""Model organisms: small reasoning models trained here, whose flaws are known because they were put there."""
