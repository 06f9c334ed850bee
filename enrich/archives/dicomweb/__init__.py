"""DICOMweb origin servers (PS3.18) as archives."""
