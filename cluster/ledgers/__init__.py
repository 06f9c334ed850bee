"""One file per database that keeps the Ledger protocol."""
