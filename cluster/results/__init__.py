"""What a run left in archives: published, verified, taken back, submitted, found again."""
