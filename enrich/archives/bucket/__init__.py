"""Buckets of S3 and of Google Cloud Storage as archives."""
